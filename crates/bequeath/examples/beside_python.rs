//! A worker of a Python program: typed tasks come out of one of its queues, answers go into another.
//!
//! The Python side, where `PROGRAM` is this example as `cargo build --example beside_python` made it:
//!
//! ```python
//! import subprocess, bequeath
//!
//! tasks, answers, ended = bequeath.Queue(), bequeath.Queue(), bequeath.Event()
//! invitation = bequeath.invite(tasks, answers, ended)
//! worker = subprocess.Popen([PROGRAM, invitation.text], pass_fds=invitation.descriptors)
//! tasks.put({"Add": (2, 3)})
//! print(answers.get())  # {'Done': {'task': {'Add': (2, 3)}, 'result': 5}}
//! tasks.put("Stop")
//! ended.wait()
//! ```

use std::collections::BTreeMap;
use std::process::ExitCode;

use bequeath::{Bytes, Error, Event, Queue, Session};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
enum Task {
    Stop,
    Add(i64, i64),
    Multiply(i128, u64),
    Mean(Vec<f64>),
    Count { text: String, words: Vec<String> },
    Checksum(Bytes),
    Total(BTreeMap<String, Option<i32>>),
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Number {
    Whole(i128),
    Float(f64),
    Counts(BTreeMap<String, usize>),
}

#[derive(Debug, Serialize)]
enum Answer {
    Done { task: Task, result: Number },
    Refused(String),
}

fn work(task: &Task) -> Number {
    match task {
        Task::Stop => Number::Whole(0),
        Task::Add(one, other) => Number::Whole(i128::from(*one) + i128::from(*other)),
        Task::Multiply(one, other) => Number::Whole(one.saturating_mul((*other).into())),
        Task::Mean(numbers) => Number::Float(numbers.iter().sum::<f64>() / numbers.len() as f64),
        Task::Count { text, words } => {
            let count = |word: &String| (word.clone(), text.matches(word.as_str()).count());
            Number::Counts(words.iter().map(count).collect())
        }
        Task::Checksum(bytes) => Number::Whole(bytes.iter().map(|byte| i128::from(*byte)).sum()),
        Task::Total(numbers) => {
            Number::Whole(numbers.values().flatten().map(|n| i128::from(*n)).sum())
        }
    }
}

fn serve(tasks: &Queue<Task>, answers: &Queue<Answer>) -> Result<(), Error> {
    loop {
        match tasks.recv() {
            Ok(Task::Stop) | Err(Error::Closed) => return Ok(()),
            Ok(task) => {
                let result = work(&task);
                answers.send(&Answer::Done { task, result })?;
            }
            // Something that is no task: the message is gone, the queue goes on.
            Err(error @ Error::Decode { .. }) => {
                answers.send(&Answer::Refused(error.to_string()))?
            }
            Err(error) => return Err(error),
        }
    }
}

fn main() -> Result<ExitCode, Error> {
    bequeath::init();
    let Some(invitation) = std::env::args().nth(1) else {
        eprintln!("beside_python INVITATION");
        return Ok(ExitCode::from(2));
    };
    let (_session, handles) = Session::accept(&invitation)?;
    let [tasks, answers, ended] = handles.as_slice() else {
        eprintln!("the invitation should hold two queues and an event");
        return Ok(ExitCode::from(2));
    };
    let ended = Event::from_handle(ended)?;
    serve(&Queue::from_handle(tasks)?, &Queue::from_handle(answers)?)?;
    ended.set();
    Ok(ExitCode::SUCCESS)
}
