//! What is said of a message to a worker: which task it is, and what to make of the pickle.

use bequeath_channel::Message;

use super::wire::{label_of, trailer, Trailer};

/// What the pickle of a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Shape {
    /// No task: the worker shall end.
    Stop = 0,
    /// Function, arguments, keyword arguments.
    Call = 1,
    /// An argument of a function that was sent before.
    Item = 2,
    /// A tuple of such: a chunk of `map`.
    Items = 3,
    /// A tuple of tuples of arguments: a chunk of `starmap`.
    Arguments = 4,
    /// A function, or whatever tasks will name by its number.
    Definition = 5,
}

impl Shape {
    fn from_byte(byte: u64) -> Option<Self> {
        [
            Self::Stop,
            Self::Call,
            Self::Item,
            Self::Items,
            Self::Arguments,
            Self::Definition,
        ]
        .into_iter()
        .find(|shape| *shape as u64 == byte)
    }
}

/// Behind a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskLabel {
    pub task: u64,
    pub shape: Shape,
    /// The number of the function that was sent before.
    pub definition: u64,
}

impl TaskLabel {
    pub fn encode(self) -> Trailer {
        trailer([self.task, self.shape as u64, self.definition, 0])
    }

    /// Takes the label off a message; none when no parent of ours sent it.
    pub fn take(message: &mut Message) -> Option<Self> {
        let [task, shape, definition, _] = label_of(message)?;
        let shape = Shape::from_byte(shape)?;
        Some(Self {
            task,
            shape,
            definition,
        })
    }
}
