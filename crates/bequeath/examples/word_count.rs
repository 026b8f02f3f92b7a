//! Counts the words of a tree of Python files with a producer, N workers, two queues and a lock.
//!
//!     cargo run --release --example word_count -- FOLDER [--workers N] [--kill-one]
//!
//! The same job and the same counts as `examples/word_count.py`: files whose name ends in `.py`
//! below FOLDER, without folders named `site-packages` or `__pycache__` and without following
//! linked folders; a word is a longest run of ASCII letters, digits and underscores, and case
//! matters. The counts are compared with a sequential run, and the speed of both is printed.
//!
//! With --kill-one a worker is killed in the middle: the program still ends, says who died and how,
//! and misses at most the file that this worker held.

use std::collections::{BTreeSet, HashMap};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use bequeath::{Child, Error, Lock, Queue, Session};

type Words = HashMap<String, u64>;
type Counted = (String, PathBuf, Words);

/// The `.py` files below a folder, always in the same order.
fn walk(folder: &Path, found: &mut dyn FnMut(PathBuf)) {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let is_folder = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let links_to_folder = |entry: &std::fs::DirEntry| entry.path().is_dir();
    for entry in entries.iter().filter(|entry| !links_to_folder(entry)) {
        if entry.file_name().as_encoded_bytes().ends_with(b".py") {
            found(entry.path());
        }
    }
    for entry in entries.iter().filter(|entry| is_folder(entry)) {
        if entry.file_name() != "site-packages" && entry.file_name() != "__pycache__" {
            walk(&entry.path(), found);
        }
    }
}

fn count_words(path: &Path) -> Words {
    let mut words = Words::new();
    let bytes = std::fs::read(path).expect("a file that the walk has just seen");
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    for word in bytes
        .split(|byte| !is_part(byte))
        .filter(|word| !word.is_empty())
    {
        let word = std::str::from_utf8(word).expect("only ASCII bytes are part of a word");
        match words.get_mut(word) {
            Some(count) => *count += 1,
            None => drop(words.insert(word.to_owned(), 1)),
        }
    }
    words
}

fn add(counts: &mut Words, more: Words) {
    for (word, count) in more {
        *counts.entry(word).or_default() += count;
    }
}

fn produce((folder, tasks): (PathBuf, Queue<PathBuf>)) {
    walk(&folder, &mut |path| {
        tasks.send(&path).expect("the queue has no bound")
    });
    tasks.close().expect("the queue is whole");
}

fn work((me, tasks, results, progress): (String, Queue<PathBuf>, Queue<Counted>, Lock<u64>)) {
    loop {
        match tasks.recv() {
            Ok(path) => {
                let words = count_words(&path);
                results
                    .send(&(me.clone(), path, words))
                    .expect("the queue has no bound");
                show_progress(&progress);
            }
            Err(Error::Closed) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

fn show_progress(progress: &Lock<u64>) {
    // Who held the lock may have been killed: a progress line needs no repair.
    let mut files = progress
        .lock()
        .or_else(|error| error.recover())
        .expect("the lock is usable");
    *files += 1;
    if *files % 50 == 0 && std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{} files", *files);
        let _ = std::io::stderr().flush();
    }
}

fn count_sequentially(folder: &Path) -> (Words, BTreeSet<PathBuf>) {
    let (mut counts, mut files) = (Words::new(), BTreeSet::new());
    walk(folder, &mut |path| {
        add(&mut counts, count_words(&path));
        files.insert(path);
    });
    (counts, files)
}

fn count_in_parallel(
    folder: &Path,
    number: usize,
    kill_after: Option<usize>,
) -> Result<(Words, BTreeSet<PathBuf>), Error> {
    let session = Session::new()?;
    // Bounded: workers do not run ahead of what is collected.
    let (tasks, results) = (session.queue(None)?, session.queue(Some(64))?);
    let progress = session.lock(0_u64)?;
    let producer = session
        .worker()
        .name("producer")
        .spawn(produce, (folder.to_owned(), tasks.clone()))?;
    let workers = (1..=number)
        .map(|number| {
            let name = format!("worker-{number}");
            let arguments = (
                name.clone(),
                tasks.clone(),
                results.clone(),
                progress.clone(),
            );
            session.worker().name(name).spawn(work, arguments)
        })
        .collect::<Result<Vec<Child<()>>, Error>>()?;

    let (mut counts, mut files) = (Words::new(), BTreeSet::new());
    let mut on_result = |(name, path, words): Counted, running: &[Child<()>]| {
        add(&mut counts, words);
        files.insert(path);
        if Some(files.len()) == kill_after {
            let victim = running.iter().find(|worker| worker.name() == name);
            victim.map_or(Ok(()), Child::kill)
        } else {
            Ok(())
        }
    };
    collect(workers, &results, &mut on_result)?;
    producer.result()?;
    Ok((counts, files))
}

type OnResult<'a> = dyn FnMut(Counted, &[Child<()>]) -> Result<(), Error> + 'a;

/// Calls `on_result` for each result until every worker has ended and the queue is empty.
fn collect(
    mut running: Vec<Child<()>>,
    results: &Queue<Counted>,
    on_result: &mut OnResult<'_>,
) -> Result<(), Error> {
    let readiness = results.readiness()?;
    while !running.is_empty() {
        let mut watched: Vec<&dyn std::os::fd::AsFd> = vec![&readiness];
        for worker in &running {
            watched.push(worker);
        }
        let ready = bequeath::wait(&watched, None)?;
        if ready[0] {
            match results.try_recv() {
                Ok(result) => on_result(result, &running)?,
                Err(Error::Empty) => {}
                Err(error) => return Err(error),
            }
        }
        for index in (0..running.len()).rev().filter(|index| ready[index + 1]) {
            if let Err(error) = running.remove(index).result() {
                println!("{error}");
            }
        }
    }
    loop {
        match results.try_recv() {
            Ok(result) => on_result(result, &[])?,
            Err(Error::Empty) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn print_speed(title: &str, counts: &Words, files: usize, began: Instant) {
    let (words, seconds) = (
        counts.values().sum::<u64>() as f64,
        began.elapsed().as_secs_f64(),
    );
    let (files, words) = (files as f64 / seconds, words / seconds / 1e6);
    println!("{title:<24} {seconds:7.2} s {files:8.0} files/s {words:7.2} million words/s");
}

struct Options {
    folder: PathBuf,
    workers: usize,
    kill_one: bool,
}

fn options() -> Option<Options> {
    let workers = std::thread::available_parallelism().map_or(2, |number| number.get().max(2));
    let mut options = Options {
        folder: PathBuf::new(),
        workers,
        kill_one: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--kill-one" => options.kill_one = true,
            "--workers" => options.workers = arguments.next()?.parse().ok()?,
            folder => options.folder = folder.into(),
        }
    }
    options.folder.is_dir().then_some(options)
}

fn main() -> Result<ExitCode, Error> {
    bequeath::init();
    let Some(options) = options() else {
        eprintln!("word_count FOLDER [--workers N] [--kill-one]");
        return Ok(ExitCode::from(2));
    };
    let began = Instant::now();
    let (counts, files) = count_sequentially(&options.folder);
    print_speed("sequential", &counts, files.len(), began);

    let began = Instant::now();
    let kill_after = options.kill_one.then_some(files.len() / 2);
    let (mut found, seen) = count_in_parallel(&options.folder, options.workers, kill_after)?;
    print_speed(
        &format!("{} workers", options.workers),
        &found,
        seen.len(),
        began,
    );

    let lost: Vec<&PathBuf> = files.difference(&seen).collect();
    for path in &lost {
        let shown = path.strip_prefix(&options.folder).unwrap_or(path);
        println!("lost with its worker: {}", shown.display());
        add(&mut found, count_words(path));
    }
    let same = found == counts && lost.len() <= usize::from(options.kill_one);
    if same {
        let aside = if lost.is_empty() {
            ""
        } else {
            ", the lost file aside"
        };
        println!("the counts are the sequential run's{aside}");
    } else {
        println!("the counts differ from the sequential run's");
    }
    print_counts(&counts, files.len());
    Ok(ExitCode::from(u8::from(!same)))
}

fn print_counts(counts: &Words, files: usize) {
    let words: u64 = counts.values().sum();
    println!(
        "total: {words} words, {} different, in {files} files",
        counts.len()
    );
    let mut common: Vec<_> = counts.iter().collect();
    common.sort_by_key(|(word, count)| (std::cmp::Reverse(**count), word.as_bytes()));
    for (word, count) in common.iter().take(10) {
        println!("{count} {word}");
    }
}
