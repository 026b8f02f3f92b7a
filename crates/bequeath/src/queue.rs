//! `Queue<T>`: values of one type between many senders and many receivers.

use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::time::Duration;

use bequeath_channel::{kind, Message as Arrived, Outgoing};
use bequeath_os::Deadline;
use bequeath_shm::{AnyHandle, Block};
use bequeath_sync::Never;
use serde::de::DeserializeOwned;
use serde::Serialize;

use crate::codec;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::transfer::{self, transferable, Parts};

/// The kind of a [`Message`] as the program made it; values have those that Python's have.
const RAW: u8 = b'r';

/// Values from many senders to many receivers, each received once, in the order sent.
///
/// Values may have handles, [`Descriptor`](crate::Descriptor)s and further queues anywhere inside.
/// They are typed by serde and travel as the plain part of pickle ([the table](crate)): through the
/// same queue a Python program puts and gets plain objects.
/// A queue without a capacity grows within the session's memory budget, and sending never waits.
///
/// # After fork
/// See [`Session`].
///
/// # If a peer dies
/// A killed sender's message is there wholly or not at all. A message that a killed receiver had
/// taken goes with it; all others are received by the survivors.
///
/// ```
/// let session = bequeath::Session::new()?;
/// let queue = session.queue::<(u32, String)>(Some(8))?;
/// queue.send(&(1, "one".to_owned()))?;
/// assert_eq!(queue.len()?, 1);
/// assert_eq!(queue.recv()?, (1, "one".to_owned()));
/// # Ok::<(), bequeath::Error>(())
/// ```
pub struct Queue<T> {
    engine: std::sync::Arc<bequeath_channel::Queue>,
    value: PhantomData<fn(T) -> T>,
}

const NOT_FOR_THIS_CALL: Error =
    Error::Malformed("a message that the other side did not send for this call");

/// A message of parts that the program itself chose; blocks and descriptors are moved, not copied.
///
/// ```
/// use bequeath::Message;
/// let session = bequeath::Session::new()?;
/// let queue = session.queue::<()>(None)?;
/// let mut block = session.allocate(1 << 20)?;
/// block.write_at(0, b"large");
/// queue.send_message(Message { bytes: b"small".to_vec(), blocks: vec![block], ..Message::default() })?;
/// let message = queue.recv_message()?;
/// let mut start = [0; 5];
/// assert!(message.blocks[0].read_at(0, &mut start));
/// assert_eq!((message.bytes.as_slice(), &start), (&b"small"[..], b"large"));
/// # Ok::<(), bequeath::Error>(())
/// ```
#[derive(Default)]
pub struct Message {
    /// Bytes, which mean what the two ends agree on.
    pub bytes: Vec<u8>,
    /// Blocks of shared memory; the receiver becomes their owner, no byte is copied.
    pub blocks: Vec<Block>,
    /// Objects of the session, made by `to_handle` and opened by `from_handle`.
    pub handles: Vec<AnyHandle>,
    /// Descriptors.
    pub descriptors: Vec<OwnedFd>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Message")
            .field("bytes", &self.bytes.len())
            .field("blocks", &self.blocks.len())
            .field("handles", &self.handles.len())
            .field("descriptors", &self.descriptors)
            .finish()
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self::of(self.engine.clone())
    }
}

impl<T> std::fmt::Debug for Queue<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Queue")
            .field("len", &self.len().ok())
            .field("capacity", &self.capacity())
            .finish()
    }
}

/// Any type: what the messages are is checked when one is sent or received.
pub(crate) trait Any {}
impl<T> Any for T {}
transferable!(Queue<T: Any>);

impl<T> Queue<T> {
    fn of(engine: std::sync::Arc<bequeath_channel::Queue>) -> Self {
        Self {
            engine,
            value: PhantomData,
        }
    }

    #[track_caller]
    pub(crate) fn create(session: &Session, capacity: Option<u64>) -> Result<Self> {
        let engine = bequeath_channel::Queue::create(session.engine(), capacity)?;
        Ok(Self::of(engine.into()))
    }

    /// The queue that a received handle refers to. The type of its values is for the two ends to
    /// agree on: a value that cannot be decoded is refused when it is received.
    ///
    /// # Errors
    /// For an object of another kind.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let queue = session.queue::<u8>(None)?;
    /// let same = bequeath::Queue::<u8>::from_handle(&queue.to_handle())?;
    /// same.send(&1)?;
    /// assert_eq!(queue.recv()?, 1);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn from_handle(handle: &AnyHandle) -> Result<Self> {
        Ok(Self::of(
            bequeath_channel::Queue::from_handle(handle)?.into(),
        ))
    }

    /// A handle to pass on inside a [`Message`].
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let handle = session.queue::<u8>(None)?.to_handle();
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[must_use]
    pub fn to_handle(&self) -> AnyHandle {
        self.engine.handle()
    }

    /// How many messages are in it, exactly.
    ///
    /// # Errors
    /// When the session's memory is corrupted.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// assert_eq!(session.queue::<u8>(None)?.len()?, 0);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn len(&self) -> Result<u64> {
        Ok(self.engine.len()?)
    }

    /// Whether no message is in it.
    ///
    /// # Errors
    /// As [`len`](Queue::len).
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// assert!(session.queue::<u8>(None)?.is_empty()?);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Most messages at a time, if there is a bound.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// assert_eq!(session.queue::<u8>(Some(2))?.capacity(), Some(2));
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    #[must_use]
    pub fn capacity(&self) -> Option<u64> {
        self.engine.capacity()
    }

    /// A descriptor that is readable whenever there is a message (and now and then when there is
    /// none), for [`wait`](crate::wait), `epoll` and the like; read nothing from it.
    ///
    /// # Errors
    /// When descriptors ran out.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let queue = session.queue::<u8>(None)?;
    /// let readiness = queue.readiness()?;
    /// queue.send(&1)?;
    /// assert_eq!(bequeath::wait(&[&readiness], None)?, [true]);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn readiness(&self) -> Result<OwnedFd> {
        Ok(self.engine.readiness()?)
    }

    /// Closes it for everybody: nothing can be sent any more, and who receives gets what is left and
    /// then [`Error::Closed`].
    ///
    /// # Errors
    /// As [`len`](Queue::len).
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let queue = session.queue::<u8>(None)?;
    /// queue.close()?;
    /// assert!(matches!(queue.send(&1), Err(bequeath::Error::Closed)));
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn close(&self) -> Result<()> {
        Ok(self.engine.close()?)
    }

    /// Sends a message of chosen parts, waiting for room.
    ///
    /// # Errors
    /// [`Error::Closed`]; over the memory budget. The parts are gone then.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let queue = session.queue::<()>(None)?;
    /// let file = std::fs::File::open("/dev/null").expect("there");
    /// queue.send_message(bequeath::Message { descriptors: vec![file.into()], ..Default::default() })?;
    /// assert_eq!(queue.recv_message()?.descriptors.len(), 1);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn send_message(&self, message: Message) -> Result<()> {
        let parts = Parts {
            bytes: message.bytes,
            blocks: message.blocks,
            references: message.handles,
            descriptors: message.descriptors,
        };
        self.send_parts(RAW, parts, Deadline::NEVER)
    }

    /// Receives a message of chosen parts, waiting for one.
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::Malformed`] when the message is a typed value.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let queue = session.queue::<()>(None)?;
    /// queue.send_message(bequeath::Message { bytes: vec![1, 2], ..Default::default() })?;
    /// assert_eq!(queue.recv_message()?.bytes, [1, 2]);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn recv_message(&self) -> Result<Message> {
        self.recv_message_until(Deadline::NEVER)
    }

    /// As [`recv_message`](Queue::recv_message), but [`Error::Empty`] when there is none now.
    ///
    /// # Errors
    /// As [`recv_message`](Queue::recv_message).
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let queue = session.queue::<()>(None)?;
    /// assert!(matches!(queue.try_recv_message(), Err(bequeath::Error::Empty)));
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn try_recv_message(&self) -> Result<Message> {
        self.recv_message_until(Deadline::PAST)
    }

    fn recv_message_until(&self, deadline: Deadline) -> Result<Message> {
        let (kind, arrived) = self.recv_any(deadline)?;
        if kind != RAW {
            return Err(NOT_FOR_THIS_CALL);
        }
        Ok(Message {
            bytes: arrived.bytes,
            blocks: arrived.blocks,
            handles: arrived.references,
            descriptors: arrived.descriptors,
        })
    }

    fn send_parts(&self, kind: u8, parts: Parts, deadline: Deadline) -> Result<()> {
        let message = Outgoing {
            kind,
            payload: &parts.bytes,
            buffers: parts.blocks,
            references: parts.references,
            descriptors: parts.descriptors,
        };
        Ok(self.engine.send(message, deadline, &mut Never)?)
    }

    fn recv_any(&self, deadline: Deadline) -> Result<(u8, Parts)> {
        let arrived: Arrived = self.engine.recv(deadline, &mut Never)?;
        let parts = Parts {
            bytes: arrived.payload.into_vec(),
            references: arrived.references,
            blocks: arrived.buffers,
            descriptors: arrived.descriptors,
        };
        Ok((arrived.kind, parts))
    }
}

impl<T: Serialize> Queue<T> {
    /// Sends a value, waiting for room.
    ///
    /// # Errors
    /// [`Error::Closed`], over the memory budget, or when the value cannot be encoded. Nothing was
    /// sent then.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let inner = session.queue::<u8>(None)?;
    /// let outer = session.queue::<(u32, bequeath::Queue<u8>)>(None)?;
    /// outer.send(&(7, inner.clone()))?;
    /// outer.recv()?.1.send(&5)?;
    /// assert_eq!(inner.recv()?, 5);
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn send(&self, value: &T) -> Result<()> {
        self.send_until(value, Deadline::NEVER)
    }

    /// As [`send`](Queue::send), but [`Error::Full`] when there is no room now.
    ///
    /// # Errors
    /// As [`send`](Queue::send).
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let queue = session.queue::<u8>(Some(1))?;
    /// queue.try_send(&1)?;
    /// assert!(matches!(queue.try_send(&2), Err(bequeath::Error::Full)));
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn try_send(&self, value: &T) -> Result<()> {
        self.send_until(value, Deadline::PAST)
    }

    /// As [`send`](Queue::send), but [`Error::Full`] when there is no room in time.
    ///
    /// # Errors
    /// As [`send`](Queue::send).
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let queue = session.queue::<u8>(Some(1))?;
    /// queue.send_timeout(&1, std::time::Duration::from_secs(1))?;
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn send_timeout(&self, value: &T, timeout: Duration) -> Result<()> {
        self.send_until(value, Deadline::after(timeout))
    }

    fn send_until(&self, value: &T, deadline: Deadline) -> Result<()> {
        let parts = transfer::export(self.engine.session(), value)?;
        self.send_parts(kind::PICKLE, parts, deadline)
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Receives a value, waiting for one.
    ///
    /// # Errors
    /// [`Error::Closed`] when nothing is left; [`Error::Decode`] for a value of another type, which
    /// is gone then.
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let queue = session.queue(None)?;
    /// queue.send(&"text".to_owned())?;
    /// assert_eq!(queue.recv()?, "text");
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn recv(&self) -> Result<T> {
        self.recv_until(Deadline::NEVER)
    }

    /// As [`recv`](Queue::recv), but [`Error::Empty`] when there is none now.
    ///
    /// # Errors
    /// As [`recv`](Queue::recv).
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let queue = session.queue::<u8>(None)?;
    /// assert!(matches!(queue.try_recv(), Err(bequeath::Error::Empty)));
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn try_recv(&self) -> Result<T> {
        self.recv_until(Deadline::PAST)
    }

    /// As [`recv`](Queue::recv), but [`Error::Empty`] when there is none in time.
    ///
    /// # Errors
    /// As [`recv`](Queue::recv).
    ///
    /// ```
    /// let session = bequeath::Session::new()?;
    /// let queue = session.queue::<u8>(None)?;
    /// assert!(queue.recv_timeout(std::time::Duration::from_millis(1)).is_err());
    /// # Ok::<(), bequeath::Error>(())
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T> {
        self.recv_until(Deadline::after(timeout))
    }

    fn recv_until(&self, deadline: Deadline) -> Result<T> {
        let (kind, mut parts) = self.recv_any(deadline)?;
        let pickle = codec::as_pickle(kind, std::mem::take(&mut parts.bytes))?;
        parts.bytes = pickle.ok_or(NOT_FOR_THIS_CALL)?;
        transfer::import(parts)
    }
}
