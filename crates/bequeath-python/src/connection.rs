#![allow(unsafe_code)]
//! `Connection`, `Pipe` and `wait`: multiprocessing's, over the engine's streams.
//!
//! Both ends of a [`pipe`] are *members*: large messages, shared objects and descriptors go between
//! them as the session's. A connection made from a descriptor of unknown origin speaks
//! multiprocessing's frames and nothing else.
//!
//! # Safety invariants
//! * A connection's descriptor is a number that the program may close or replace behind our back, as
//!   with multiprocessing: it is lent to one system call at a time, and a wrong one is that call's
//!   error. It is closed by whoever swaps the number out of `handle`, so once.
//! * Buffers are used through views that keep their memory exported and in place.

use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};
use std::sync::Arc;

use bequeath_channel::stream::{Error, Incoming, Stream};
use bequeath_channel::{Message, Payload};
use bequeath_os::socket::{self, Shutdown, SocketType};
use bequeath_os::Deadline;
use bequeath_shm::Session;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple, PyType};

use crate::blocking;
use crate::bytes_view::BytesView;
use crate::error::EngineError;
use crate::intern;
use crate::sending::{Receiver, Sending};
use crate::transfer::{self, kind};
use crate::wire;

const CLOSED: RawFd = -1;

/// Nobody but members has had an end's descriptor.
const PRIVATE: u8 = 0;
/// The program asked for a number of either end: it may have given it to another program, so that
/// frames must be such as any multiprocessing understands.
const EXPOSED: u8 = 1;
/// An end was handed to a child that stays out of the session.
const OUTSIDE: u8 = 2;

/// One end of a pipe, or a socket: sends and receives objects and bytes in frames.
///
/// After a fork, parent and child hold the same end. When a sender dies, its message has arrived
/// wholly or not at all if both ends came from `Pipe()`.
#[pyclass(frozen, subclass, dict, weakref, module = "bequeath.connection")]
pub struct Connection {
    handle: AtomicI32,
    readable: AtomicBool,
    writable: AtomicBool,
    /// Whether the other end was made together with this one.
    member: AtomicBool,
    /// How far either end may have gone; see [`PRIVATE`].
    exposed: Arc<AtomicU8>,
    stream: Stream,
}

impl Connection {
    fn new(handle: RawFd, readable: bool, writable: bool, pair: Option<&Arc<AtomicU8>>) -> Self {
        Self {
            handle: AtomicI32::new(handle),
            readable: AtomicBool::new(readable),
            writable: AtomicBool::new(writable),
            member: AtomicBool::new(pair.is_some()),
            exposed: pair.map_or_else(Arc::default, Arc::clone),
            stream: Stream::new(),
        }
    }

    pub(crate) fn descriptor(&self) -> PyResult<BorrowedFd<'static>> {
        self._check_closed()?;
        // SAFETY: not negative (checked above); see the module's invariants.
        Ok(unsafe { BorrowedFd::borrow_raw(self.handle.load(Ordering::Relaxed)) })
    }

    fn to_read(&self) -> PyResult<BorrowedFd<'static>> {
        let fd = self.descriptor()?;
        self._check_readable()?;
        Ok(fd)
    }

    fn sending<'a>(&'a self, fd: BorrowedFd<'a>) -> Sending<'a> {
        let known = self.member.load(Ordering::Relaxed);
        let exposed = self.exposed.load(Ordering::Relaxed);
        Sending {
            stream: &self.stream,
            fd,
            receiver: match (known, exposed) {
                (_, OUTSIDE..) => Receiver::Outsider,
                (true, PRIVATE) => Receiver::Member,
                (true, EXPOSED) => Receiver::Exposed,
                (false, _) => Receiver::Stranger,
            },
        }
    }

    fn to_write(&self) -> PyResult<BorrowedFd<'static>> {
        let fd = self.descriptor()?;
        self._check_writable()?;
        Ok(fd)
    }

    fn receive(&self, py: Python<'_>, limit: Option<u64>) -> PyResult<Message> {
        let fd = self.to_read()?;
        let received = blocking::wait(py, "message", |interrupt| {
            self.stream.receive(fd, limit, interrupt)
        });
        let message = received.and_then(|incoming| Ok(within(limit, open(incoming)?)?));
        if let Err(EngineError::Stream(Error::TooLong { .. })) = message {
            self.spoil()?;
        }
        Ok(message?)
    }

    /// Multiprocessing's reaction to a message beyond the caller's limit: what follows in the
    /// stream is no frame any more.
    fn spoil(&self) -> PyResult<()> {
        if self.writable.load(Ordering::Relaxed) {
            self.readable.store(false, Ordering::Relaxed);
            return Ok(());
        }
        self.close()
    }

    fn receive_bytes(&self, py: Python<'_>, limit: Option<u64>) -> PyResult<Py<PyBytes>> {
        let message = self.receive(py, limit)?;
        wire::to_bytes(py, message)
    }
}

/// A message in an envelope tells its length only when it is opened.
fn within(limit: Option<u64>, message: Message) -> Result<Message, Error> {
    let length = message.payload.len() as u64;
    match limit {
        Some(limit) if length > limit => Err(Error::TooLong { length }),
        _ => Ok(message),
    }
}

fn open(incoming: Incoming) -> Result<Message, Error> {
    match incoming {
        Incoming::Plain(bytes) => Ok(Message {
            kind: kind::PICKLE,
            payload: Payload::Inline(bytes),
            ..Message::default()
        }),
        Incoming::Member(frame) => frame.open(Session::current().as_ref()),
    }
}

#[pymethods]
impl Connection {
    // Takes anything: a subclass may have arguments of its own and call `__init__` below.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn __new__(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::new(CLOSED, true, true, None)
    }

    #[pyo3(signature = (handle, readable = None, writable = None))]
    fn __init__(
        &self,
        handle: &Bound<'_, PyAny>,
        readable: Option<&Bound<'_, PyAny>>,
        writable: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let handle: RawFd = handle
            .call_method0(intern!(handle.py(), "__index__"))?
            .extract()?;
        if handle < 0 {
            return Err(PyValueError::new_err("invalid handle"));
        }
        let readable = readable.map_or(Ok(true), Bound::is_truthy)?;
        let writable = writable.map_or(Ok(true), Bound::is_truthy)?;
        if !readable && !writable {
            return Err(PyValueError::new_err(
                "at least one of `readable` and `writable` must be True",
            ));
        }
        self.readable.store(readable, Ordering::Relaxed);
        self.writable.store(writable, Ordering::Relaxed);
        self.stream.forget();
        self.handle.store(handle, Ordering::Relaxed);
        Ok(())
    }

    /// Send a (picklable) object.
    fn send(&self, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        let fd = self.to_write()?;
        self.sending(fd).object(obj)
    }

    /// Send the bytes of a bytes-like object.
    #[pyo3(signature = (buf, offset = 0, size = None))]
    fn send_bytes(
        &self,
        buf: &Bound<'_, PyAny>,
        offset: isize,
        size: Option<isize>,
    ) -> PyResult<()> {
        let fd = self.to_write()?;
        let view = BytesView::of(buf, false)?;
        let range = wire::range(view.len(), offset, size)?;
        self.sending(fd).bytes(buf.py(), &view.bytes()[range])
    }

    /// Receive a (picklable) object.
    fn recv(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let message = self.receive(py, None)?;
        transfer::loads(py, message)
    }

    /// Receive bytes data as a bytes object.
    #[pyo3(signature = (maxlength = None))]
    fn recv_bytes(&self, py: Python<'_>, maxlength: Option<i64>) -> PyResult<Py<PyBytes>> {
        self.to_read()?;
        let limit = match maxlength.map(u64::try_from) {
            Some(Err(_)) => return Err(PyValueError::new_err("negative maxlength")),
            other => other.and_then(Result::ok),
        };
        self.receive_bytes(py, limit)
    }

    /// Receive bytes data into a writeable bytes-like object; return the number of bytes read.
    #[pyo3(signature = (buf, offset = 0))]
    fn recv_bytes_into(&self, buf: &Bound<'_, PyAny>, offset: isize) -> PyResult<usize> {
        let py = buf.py();
        self.to_read()?;
        let view = BytesView::of(buf, true)?;
        let start = wire::start(view.len(), offset)?;
        let bytes = self.receive_bytes(py, None)?;
        let received = bytes.as_bytes(py);
        if view.write_at(start, received) {
            Ok(received.len())
        } else {
            Err(wire::buffer_too_short(py, &bytes))
        }
    }

    /// Whether there is any input available to be read.
    #[pyo3(signature = (timeout = Some(0.0)), text_signature = "($self, timeout=0.0)")]
    fn poll(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let fd = self.to_read()?;
        let deadline = timeout.map_or(Ok(Deadline::NEVER), blocking::deadline_after)?;
        Ok(blocking::wait(py, "message", |interrupt| {
            self.stream.poll(fd, deadline, interrupt)
        })?)
    }

    /// File descriptor or handle of the connection.
    fn fileno(&self) -> PyResult<RawFd> {
        self._check_closed()?;
        self.exposed.fetch_max(EXPOSED, Ordering::Relaxed);
        Ok(self.handle.load(Ordering::Relaxed))
    }

    /// Close the connection.
    fn close(&self) -> PyResult<()> {
        match self._detach() {
            CLOSED => Ok(()),
            // SAFETY: the number was ours until the swap in `_detach`.
            fd => unsafe { bequeath_os::raw::close(fd) }
                .map_err(|error| EngineError::from(error).into()),
        }
    }

    /// Stop managing the file descriptor: it stays open.
    fn _detach(&self) -> RawFd {
        self.handle.swap(CLOSED, Ordering::AcqRel)
    }

    /// True if the connection is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.handle.load(Ordering::Relaxed) < 0
    }

    /// True if the connection is readable.
    #[getter]
    fn readable(&self) -> bool {
        self.readable.load(Ordering::Relaxed)
    }

    /// True if the connection is writable.
    #[getter]
    fn writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }

    #[getter(_handle)]
    fn handle(&self) -> Option<RawFd> {
        self.exposed.fetch_max(EXPOSED, Ordering::Relaxed);
        Some(self.handle.load(Ordering::Relaxed)).filter(|fd| *fd >= 0)
    }

    #[setter(_handle)]
    fn set_handle(&self, handle: Option<RawFd>) {
        self.stream.forget();
        self.handle
            .store(handle.unwrap_or(CLOSED), Ordering::Relaxed);
    }

    fn _check_closed(&self) -> PyResult<()> {
        if self.closed() {
            return Err(PyOSError::new_err("handle is closed"));
        }
        Ok(())
    }

    fn _check_readable(&self) -> PyResult<()> {
        if self.readable() {
            return Ok(());
        }
        Err(PyOSError::new_err("connection is write-only"))
    }

    fn _check_writable(&self) -> PyResult<()> {
        if self.writable() {
            return Ok(());
        }
        Err(PyOSError::new_err("connection is read-only"))
    }

    fn _send_bytes(&self, buf: &Bound<'_, PyAny>) -> PyResult<()> {
        self.send_bytes(buf, 0, None)
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close()
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let (py, this) = (slf.py(), slf.get());
        let fd = this.descriptor()?.as_raw_fd();
        if !transfer::transfer_active() {
            return Err(transfer::refusal(slf.as_any()));
        }
        let token = transfer::export_descriptor(fd)?;
        if transfer::goes_outside() {
            this.exposed.store(OUTSIDE, Ordering::Relaxed);
        }
        let member = this.member.load(Ordering::Relaxed);
        let exposed = this.exposed.load(Ordering::Relaxed);
        let rebuild = py
            .import(intern!(py, "bequeath._engine"))?
            .getattr(intern!(py, "_rebuild_connection"))?;
        let ways = (this.readable(), this.writable());
        let state = (slf.get_type(), token, ways, (member, exposed));
        Ok((rebuild, state.into_pyobject(py)?))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Nobody to tell about an error, as in multiprocessing.
        let _ = self.close();
    }
}

/// The receiving half of pickling a connection.
#[pyfunction]
#[pyo3(name = "_rebuild_connection")]
pub fn rebuild_connection<'py>(
    class: &Bound<'py, PyType>,
    token: usize,
    ways: (bool, bool),
    receiver: (bool, u8),
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let made = class.call_method1(intern!(py, "__new__"), (class,))?;
    let connection = made.cast::<Connection>()?.get();
    connection.readable.store(ways.0, Ordering::Relaxed);
    connection.writable.store(ways.1, Ordering::Relaxed);
    connection.member.store(receiver.0, Ordering::Relaxed);
    connection.exposed.store(receiver.1, Ordering::Relaxed);
    let fd = transfer::import_descriptor(token)?;
    connection.handle.store(fd, Ordering::Relaxed);
    Ok(made)
}

/// Two connected ends; with `duplex=False` the first only receives and the second only sends.
#[pyfunction]
#[pyo3(name = "Pipe", signature = (duplex = None), text_signature = "(duplex=True)")]
pub fn pipe(duplex: Option<&Bound<'_, PyAny>>) -> PyResult<(Connection, Connection)> {
    let duplex = duplex.map_or(Ok(true), Bound::is_truthy)?;
    let (first, second) = socket::pair(SocketType::Stream).map_err(EngineError::from)?;
    if !duplex {
        socket::shutdown(&first, Shutdown::Write).map_err(EngineError::from)?;
    }
    let exposed = Arc::<AtomicU8>::default();
    let end = |fd: OwnedFd, readable, writable| {
        Connection::new(fd.into_raw_fd(), readable, writable, Some(&exposed))
    };
    Ok((end(first, true, duplex), end(second, duplex, true)))
}
