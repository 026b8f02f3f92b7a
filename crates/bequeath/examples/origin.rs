//! The three programs of the question that started this project, in Rust.
//!
//!     cargo run --example origin

use bequeath::{Error, Queue, Session};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

/// The first program: an object that says when it is encoded.
#[derive(Debug, Deserialize)]
struct Foobar {}

impl Serialize for Foobar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        println!("I'm being encoded!");
        serializer.serialize_struct("Foobar", 0)?.end()
    }
}

fn show(foobar: Foobar) {
    println!("the worker got {foobar:?}");
}

fn say_hello(queue: Queue<String>) {
    queue
        .send(&"hello from the worker".to_owned())
        .expect("the parent listens");
}

fn main() -> Result<(), Error> {
    bequeath::init();
    let session = Session::new()?;

    println!("1. an object as an argument");
    session.spawn(show, Foobar {})?.result()?;

    println!("2. a queue, encoded to plain bytes and passed to a worker");
    let queue = session.queue::<String>(None)?;
    match serde_json::to_string(&queue) {
        Ok(text) => println!("   unexpected: {text}"),
        Err(error) => println!("   refused: {error}"),
    }
    let child = session.spawn(say_hello, queue.clone())?;
    println!("   passed: {}", queue.recv()?);
    child.result()?;

    println!("3. a type defined inside main");
    #[derive(Debug, Serialize, Deserialize)]
    struct Foo {
        number: u32,
    }
    let child = session.spawn(|object: Foo| object.number + 1, Foo { number: 6 })?;
    println!("   the worker made {} of it", child.result()?);
    Ok(())
}
