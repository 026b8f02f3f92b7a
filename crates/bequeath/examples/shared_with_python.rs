//! A worker of a Python program that is sent queues, locks, events, memory, sockets and files inside of messages, uses
//! them, and sends them back, or others that it has made.
//!
//! The Python side, where `PROGRAM` is this example as `cargo build --example shared_with_python` made it:
//!
//! ```python
//! import subprocess, bequeath
//! from bequeath.sharedctypes import RawArray
//!
//! requests, answers = bequeath.Queue(), bequeath.Queue()
//! invitation = bequeath.invite(requests, answers)
//! worker = subprocess.Popen([PROGRAM, invitation.text], pass_fds=invitation.descriptors)
//! lock, memory, done = bequeath.Lock(), RawArray("q", 1), bequeath.Event()
//! requests.put({"Count": {"lock": lock, "memory": memory, "turns": 1000, "done": done}})
//! for _ in range(1000):
//!     with lock:
//!         memory[0] += 1
//! done.wait()
//! print(memory[0])  # 2000
//! requests.put("Stop")
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use bequeath::{
    Barrier, Condition, Descriptor, Error, Event, Lock, Memory, Queue, Semaphore, Session,
};
use serde::{Deserialize, Serialize};

/// Whatever there is, at all the places where it may stand.
#[derive(Serialize, Deserialize)]
struct Everything {
    queue: Queue<Note>,
    pair: (Event, Event),
    list: Vec<(u32, Semaphore)>,
    named: HashMap<String, Lock<()>>,
    maybe: Option<Barrier>,
    memory: Memory,
    either: Either,
    any: Any,
    /// A connection, a file of any sort.
    descriptors: Vec<Descriptor>,
    #[serde(with = "bequeath::descriptor")]
    socket: UnixStream,
    #[serde(with = "bequeath::descriptor")]
    file: File,
}

#[derive(Serialize, Deserialize)]
enum Either {
    Queue(Queue<String>),
    Wrapped { event: Wrapper },
}

#[derive(Serialize, Deserialize)]
struct Wrapper(Event);

/// Read into serde's own memory first.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Any {
    Number(u64),
    Event { event: Event },
}

/// A message that has a queue inside, for messages of its own kind.
#[derive(Serialize, Deserialize)]
struct Note {
    text: String,
    answers: Option<Queue<Note>>,
}

#[derive(Serialize, Deserialize)]
enum Request {
    Stop,
    Use(Box<Everything>),
    Make,
    Count {
        lock: Lock<()>,
        memory: Memory,
        turns: u64,
        done: Event,
    },
    Notify {
        condition: Condition,
        lock: Lock<()>,
        memory: Memory,
    },
    OutsideATransfer(Queue<String>),
    OnlyRusts,
}

#[derive(Serialize)]
enum Answer {
    Everything(Box<Everything>),
    Text(String),
    Value(Lock<u64>),
}

fn note(text: &str, answers: Option<Queue<Note>>) -> Note {
    Note {
        text: text.to_owned(),
        answers,
    }
}

fn use_all(everything: &Everything) -> Result<(), Error> {
    let Everything { pair, list, .. } = everything;
    everything
        .queue
        .send(&note("from Rust", Some(everything.queue.clone())))?;
    pair.0.set();
    for (units, semaphore) in list {
        semaphore.release(*units)?;
    }
    {
        let _held = everything.named["lock"].lock()?;
        everything.memory.write_at(0, b"held");
    }
    match &everything.either {
        Either::Queue(queue) => queue.send(&"either".to_owned())?,
        Either::Wrapped { event } => event.0.set(),
    }
    if let Any::Event { event } = &everything.any {
        event.set();
    }
    let wrote = (&everything.socket)
        .write_all(b"to the socket")
        .and_then(|()| (&everything.file).write_all(b"to the file"));
    wrote.expect("both take bytes");
    if let Some(barrier) = &everything.maybe {
        barrier.wait()?;
    }
    Ok(())
}

fn make(session: &Session, file: File) -> Result<Everything, Error> {
    let (queue, either) = (session.queue(None)?, session.queue(Some(3))?);
    queue.send(&note("made in Rust", Some(queue.clone())))?;
    either.send(&"made".to_owned())?;
    let event = session.event()?;
    event.set();
    let memory = session.memory(8)?;
    memory.write_at(0, b"in Rust!");
    let (socket, other) = UnixStream::pair().expect("there are descriptors");
    Ok(Everything {
        queue,
        pair: (event.clone(), event.clone()),
        list: vec![(2, session.semaphore(2, None)?)],
        named: HashMap::from([("lock".to_owned(), session.lock(())?)]),
        maybe: Some(session.barrier(1)?),
        memory,
        either: Either::Queue(either),
        any: Any::Event { event },
        descriptors: vec![other.into()],
        socket,
        file,
    })
}

fn count(lock: &Lock<()>, memory: &Memory, turns: u64) -> Result<(), Error> {
    for _ in 0..turns {
        let _held = lock.lock()?;
        let mut number = [0; 8];
        let read = memory.read_at(0, &mut number);
        let more = u64::from_ne_bytes(number) + 1;
        assert!(read && memory.write_at(0, &more.to_ne_bytes()));
    }
    Ok(())
}

fn answer(session: &Session, request: Request) -> Result<Option<Answer>, Error> {
    Ok(match request {
        Request::Stop => None,
        Request::Use(everything) => {
            use_all(&everything)?;
            Some(Answer::Everything(everything))
        }
        Request::Make => {
            let null = File::open("/dev/null").expect("every system has it");
            Some(Answer::Everything(Box::new(make(session, null)?)))
        }
        Request::Count {
            lock,
            memory,
            turns,
            done,
        } => {
            count(&lock, &memory, turns)?;
            done.set();
            Some(Answer::Text("counted".to_owned()))
        }
        Request::Notify {
            condition,
            lock,
            memory,
        } => {
            let _held = lock.lock()?;
            memory.write_at(0, &[1]);
            condition.notify_all();
            Some(Answer::Text("notified".to_owned()))
        }
        Request::OutsideATransfer(queue) => {
            let refused = serde_json::to_string(&queue).expect_err("bytes have no destination");
            Some(Answer::Text(refused.to_string()))
        }
        Request::OnlyRusts => Some(Answer::Value(session.lock(7)?)),
    })
}

fn main() -> Result<ExitCode, Error> {
    bequeath::init();
    let Some(invitation) = std::env::args().nth(1) else {
        eprintln!("shared_with_python INVITATION");
        return Ok(ExitCode::from(2));
    };
    let (session, handles) = Session::accept(&invitation)?;
    let [requests, answers] = handles.as_slice() else {
        eprintln!("the invitation should hold two queues");
        return Ok(ExitCode::from(2));
    };
    let (requests, answers) = (
        Queue::<Request>::from_handle(requests)?,
        Queue::<Answer>::from_handle(answers)?,
    );
    loop {
        let request = match requests.recv() {
            // Not what was asked for: the message is gone, the queue goes on.
            Err(error @ (Error::Decode { .. } | Error::Session(_) | Error::Malformed(_))) => {
                answers.send(&Answer::Text(format!("refused: {error}")))?;
                continue;
            }
            request => request?,
        };
        match answer(&session, request)? {
            Some(answer) => answers.send(&answer)?,
            None => return Ok(ExitCode::SUCCESS),
        }
    }
}
