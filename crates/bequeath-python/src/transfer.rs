#![allow(unsafe_code)]
//! Objects to messages and back: the one place where the bindings pickle.
//!
//! Exact `int`, `float`, `bool`, `None`, `str` and `bytes` are encoded here; everything else goes through a pickler that
//! `bequeath._transfer.TransferPickler` is and that is used again for later messages (a new pickler per message is the largest single
//! cost of a small message in multiprocessing). While an object is pickled, a *transfer* is open on this thread: native
//! objects and the facade's reducers hand in what does not fit into bytes (references to shared objects, descriptors,
//! large buffers) and get a small number that stands for it in the pickle. While it is rebuilt they hand the number back.
//!
//! # Safety invariants
//! * Received payloads and adopted blocks are exposed through the buffer protocol; the exporting object owns the memory and every view
//!   holds a reference to it.
//! * Raw copies name ranges that the owning value vouches for ([`Payload::parts`], `Block::as_ptr` and `len`).

use std::cell::RefCell;
use std::ffi::c_int;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Mutex;

use bequeath_channel::{Message, Outgoing, Payload};
use bequeath_shm::{Adopted, AnyHandle, Block, Session};
use pyo3::exceptions::{PyBufferError, PyMemoryError, PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyString};

/// What the payload of a message is.
pub mod kind {
    /// A pickle of protocol 5 or less.
    pub const PICKLE: u8 = 0;
    /// The bytes themselves.
    pub const BYTES: u8 = 1;
    /// A 64-bit integer in native order.
    pub const INT: u8 = 2;
    /// A double in native order.
    pub const FLOAT: u8 = 3;
    /// Nothing.
    pub const NONE: u8 = 4;
    /// True.
    pub const TRUE: u8 = 5;
    /// False.
    pub const FALSE: u8 = 6;
    /// UTF-8 text.
    pub const TEXT: u8 = 7;
}

/// Buffers from this size on travel out of band, in blocks of their own.
const OUT_OF_BAND: usize = 4096;
/// Copies from this size on let other Python threads run.
const DETACH: usize = 1 << 20;
/// Output buffers larger than this are not kept for the next message.
const KEEP_CAPACITY: usize = 1 << 16;

/// Why an object crosses, which decides what strict mode refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Arguments of a process being started: multiprocessing's "inheritance".
    Start,
    /// A message through a queue or connection.
    Message,
}

/// What an open transfer has collected, or has to hand out.
enum Transfer {
    Export {
        purpose: Purpose,
        references: Vec<AnyHandle>,
        descriptors: Vec<OwnedFd>,
        buffers: Vec<Block>,
    },
    Import {
        references: Vec<AnyHandle>,
        descriptors: Vec<Option<OwnedFd>>,
    },
}

thread_local! {
    /// Open transfers of this thread, innermost last: a `put` inside a `__reduce__` opens one of its own.
    static OPEN: RefCell<Vec<Transfer>> = const { RefCell::new(Vec::new()) };
}

/// Keeps a transfer open; closing takes what was collected.
struct Opened;

impl Opened {
    fn open(transfer: Transfer) -> Self {
        OPEN.with_borrow_mut(|open| open.push(transfer));
        Self
    }

    fn close(self) -> Option<Transfer> {
        std::mem::forget(self);
        OPEN.with_borrow_mut(Vec::pop)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let _ = OPEN.with_borrow_mut(Vec::pop);
    }
}

/// Whether an object pickled now on this thread is on its way to another process.
#[pyfunction]
#[must_use]
pub fn transfer_active() -> bool {
    OPEN.with_borrow(|open| matches!(open.last(), Some(Transfer::Export { .. })))
}

/// Whether the transfer that is open carries a process's arguments (as opposed to a message).
#[pyfunction]
#[must_use]
pub fn transfer_is_start() -> bool {
    OPEN.with_borrow(|open| {
        matches!(
            open.last(),
            Some(Transfer::Export {
                purpose: Purpose::Start,
                ..
            })
        )
    })
}

/// How many references and descriptors the open transfer has collected: whether pickling something added any.
#[pyfunction]
#[must_use]
pub fn transfer_load() -> (usize, usize) {
    OPEN.with_borrow(|open| match open.last() {
        Some(Transfer::Export {
            references,
            descriptors,
            ..
        }) => (references.len(), descriptors.len()),
        _ => (0, 0),
    })
}

/// Hands a shared object in; the number stands for it in the pickle. For `__reduce__` of native classes.
///
/// # Errors
/// RuntimeError in multiprocessing's words when no transfer is open, and in strict mode outside a start.
pub fn export(object: &Bound<'_, PyAny>, handle: &AnyHandle) -> PyResult<usize> {
    let py = object.py();
    let strict = is_strict(py)?;
    OPEN.with_borrow_mut(|open| match open.last_mut() {
        Some(Transfer::Export {
            purpose,
            references,
            ..
        }) if !strict || *purpose == Purpose::Start => {
            references.push(handle.clone());
            Ok(references.len() - 1)
        }
        _ => Err(()),
    })
    .map_err(|()| refusal(object))
}

/// Whether [`export`] would be refused now: for `__reduce__` of what only consists of shared objects.
///
/// # Errors
/// As [`export`].
pub fn check(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let strict = is_strict(object.py())?;
    let allowed = OPEN.with_borrow(|open| match open.last() {
        Some(Transfer::Export { purpose, .. }) => !strict || *purpose == Purpose::Start,
        _ => false,
    });
    if allowed {
        Ok(())
    } else {
        Err(refusal(object))
    }
}

/// The object that a number stands for. For the functions that `__reduce__` names.
///
/// # Errors
/// RuntimeError when nothing is being received, ValueError for a number that the message does not have.
pub fn import(token: usize) -> PyResult<AnyHandle> {
    OPEN.with_borrow(|open| match open.last() {
        Some(Transfer::Import { references, .. }) => references
            .get(token)
            .cloned()
            .ok_or_else(|| PyValueError::new_err("the message holds no such object")),
        _ => Err(PyRuntimeError::new_err(
            "this object can only be rebuilt while its message is received",
        )),
    })
}

/// multiprocessing's refusal for an object that is pickled with no destination, in its very words in strict mode.
pub fn refusal(object: &Bound<'_, PyAny>) -> PyErr {
    let py = object.py();
    let made = py
        .import(intern!(py, "bequeath._transfer"))
        .and_then(|module| module.call_method1(intern!(py, "no_destination"), (object,)));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// Hands in a descriptor (duplicated; the caller keeps its own); the number stands for it in the pickle.
#[pyfunction]
pub fn export_descriptor(fd: i32) -> PyResult<usize> {
    let copy = duplicate(fd)?;
    OPEN.with_borrow_mut(|open| match open.last_mut() {
        Some(Transfer::Export { descriptors, .. }) => {
            descriptors.push(copy);
            Ok(descriptors.len() - 1)
        }
        _ => Err(PyRuntimeError::new_err(
            "a descriptor can only be exported while a message is being made",
        )),
    })
}

fn duplicate(fd: i32) -> PyResult<OwnedFd> {
    if fd < 0 {
        return Err(PyValueError::new_err("a descriptor cannot be negative"));
    }
    // SAFETY: not negative, and only lent to the call that checks whether it is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned().map_err(PyErr::from)
}

/// Takes over descriptors that somebody names by number.
pub(crate) fn own_descriptors(numbers: Vec<i32>) -> PyResult<Vec<OwnedFd>> {
    numbers
        .into_iter()
        .map(|number| {
            duplicate(number)?; // refuses what is not open before anything is owned
                                // SAFETY: open, and the caller hands it over.
            Ok(unsafe { OwnedFd::from_raw_fd(number) })
        })
        .collect()
}

/// The descriptor that a number stands for, once; the caller owns it.
#[pyfunction]
pub fn import_descriptor(token: usize) -> PyResult<i32> {
    OPEN.with_borrow_mut(|open| match open.last_mut() {
        Some(Transfer::Import { descriptors, .. }) => descriptors
            .get_mut(token)
            .and_then(Option::take)
            .map(IntoRawFd::into_raw_fd)
            .ok_or_else(|| {
                PyValueError::new_err(
                    "the message holds no such descriptor, or it was taken already",
                )
            }),
        _ => Err(PyRuntimeError::new_err(
            "a descriptor can only be imported while its message is received",
        )),
    })
}

/// An object made ready to leave.
pub struct Pickled {
    /// One of [`kind`].
    pub kind: u8,
    bytes: Bytes,
    /// Out-of-band buffers.
    pub buffers: Vec<Block>,
    /// Shared objects inside.
    pub references: Vec<AnyHandle>,
    /// Descriptors inside.
    pub descriptors: Vec<OwnedFd>,
}

enum Bytes {
    Word([u8; 8], usize),
    Python(Py<PyBytes>),
    Text(Py<PyString>),
    Vec(Vec<u8>),
}

static SPARE_OUTPUT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

impl Pickled {
    fn scalar(kind: u8, bytes: Bytes) -> Self {
        Self {
            kind,
            bytes,
            buffers: Vec::new(),
            references: Vec::new(),
            descriptors: Vec::new(),
        }
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self, py: Python<'_>) -> &[u8] {
        match &self.bytes {
            Bytes::Word(word, len) => &word[..*len],
            Bytes::Python(bytes) => bytes.as_bytes(py),
            Bytes::Text(text) => text.bind_borrowed(py).to_str().map_or(&[], |text| {
                // SAFETY: the text is cached inside (or is) the string object that `self` keeps alive; it is immutable.
                unsafe { std::slice::from_raw_parts(text.as_ptr(), text.len()) }
            }),
            Bytes::Vec(bytes) => bytes,
        }
    }

    /// The same as the channel takes it; what it carried besides bytes has moved out of `self` then.
    pub fn outgoing(&mut self, py: Python<'_>) -> Outgoing<'_> {
        let (buffers, references, descriptors) = (
            std::mem::take(&mut self.buffers),
            std::mem::take(&mut self.references),
            std::mem::take(&mut self.descriptors),
        );
        Outgoing {
            kind: self.kind,
            payload: self.payload(py),
            buffers,
            references,
            descriptors,
        }
    }
}

impl Drop for Pickled {
    fn drop(&mut self) {
        if let Bytes::Vec(bytes) = &mut self.bytes {
            if bytes.capacity() <= KEEP_CAPACITY {
                if let Ok(mut spare) = SPARE_OUTPUT.try_lock() {
                    if spare.len() < 8 {
                        bytes.clear();
                        spare.push(std::mem::take(bytes));
                    }
                }
            }
        }
    }
}

/// Makes a message of an object.
///
/// # Errors
/// Whatever pickling raises; MemoryError when the session's budget does not allow a large buffer.
pub fn dumps(object: &Bound<'_, PyAny>, purpose: Purpose) -> PyResult<Pickled> {
    if let Some(scalar) = scalar(object) {
        return Ok(scalar);
    }
    let py = object.py();
    let pickler = Pickler::take(py)?;
    let opened = Opened::open(Transfer::Export {
        purpose,
        references: Vec::new(),
        descriptors: Vec::new(),
        buffers: Vec::new(),
    });
    pickler
        .dump
        .call1(py, (object,))
        .map_err(|error| explained(object, error))?;
    let Some(Transfer::Export {
        references,
        descriptors,
        buffers,
        ..
    }) = opened.close()
    else {
        return Err(PyRuntimeError::new_err(
            "a transfer was closed while an object was being pickled",
        ));
    };
    let bytes = pickler.finish(py)?;
    Ok(Pickled {
        kind: kind::PICKLE,
        bytes: Bytes::Vec(bytes),
        buffers,
        references,
        descriptors,
    })
}

/// The facade's better words for a failure, with the path to the culprit.
fn explained(object: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let py = object.py();
    let explain = || {
        // Up to 3.11 an error's traceback is not in the exception yet; it tells whose code raised it.
        if let Some(trace) = error.traceback(py) {
            error
                .value(py)
                .setattr(intern!(py, "__traceback__"), trace)?;
        }
        let module = facade(py)?;
        module.call_method1(intern!(py, "explain"), (object, error.value(py)))
    };
    match explain() {
        Ok(better) => {
            let better = PyErr::from_value(better);
            if !better.value(py).is(error.value(py)) && better.cause(py).is_none() {
                better.set_cause(py, Some(error));
            }
            better
        }
        Err(_) => error,
    }
}

/// Always a pickle in one piece of bytes: for wires whose other end may be a plain multiprocessing.
///
/// # Errors
/// Whatever pickling raises, and the refusal of objects that cannot cross such a wire.
pub fn dumps_portable<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    py.import(intern!(py, "bequeath.reduction"))?
        .getattr(intern!(py, "ForkingPickler"))?
        .call_method1(intern!(py, "dumps"), (object,))
}

fn scalar(object: &Bound<'_, PyAny>) -> Option<Pickled> {
    if let Ok(value) = object.cast_exact::<PyInt>() {
        let value: i64 = value.extract().ok()?;
        return Some(Pickled::scalar(
            kind::INT,
            Bytes::Word(value.to_ne_bytes(), 8),
        ));
    }
    if let Ok(value) = object.cast_exact::<PyBytes>() {
        return Some(Pickled::scalar(
            kind::BYTES,
            Bytes::Python(value.clone().unbind()),
        ));
    }
    if let Ok(value) = object.cast_exact::<PyString>() {
        value.to_str().ok()?; // lone surrogates: left to pickle
        return Some(Pickled::scalar(
            kind::TEXT,
            Bytes::Text(value.clone().unbind()),
        ));
    }
    if let Ok(value) = object.cast_exact::<PyFloat>() {
        return Some(Pickled::scalar(
            kind::FLOAT,
            Bytes::Word(value.value().to_ne_bytes(), 8),
        ));
    }
    if object.is_none() {
        return Some(Pickled::scalar(kind::NONE, Bytes::Word([0; 8], 0)));
    }
    let value = object.cast_exact::<PyBool>().ok()?;
    let kind = if value.is_true() {
        kind::TRUE
    } else {
        kind::FALSE
    };
    Some(Pickled::scalar(kind, Bytes::Word([0; 8], 0)))
}

/// The object that a message carries.
///
/// # Errors
/// Whatever unpickling raises; ValueError for a message that is not well formed.
pub fn loads(py: Python<'_>, mut message: Message) -> PyResult<Py<PyAny>> {
    load(py, &mut message)
}

/// As [`loads`]; the message is used up, but for the room of a small payload, which its owner may use again.
///
/// # Errors
/// As [`loads`].
pub fn load(py: Python<'_>, message: &mut Message) -> PyResult<Py<PyAny>> {
    let payload = &message.payload;
    match message.kind {
        kind::INT => Ok(i64::from_ne_bytes(word(payload)?)
            .into_pyobject(py)?
            .into_any()
            .unbind()),
        kind::FLOAT => Ok(f64::from_ne_bytes(word(payload)?)
            .into_pyobject(py)?
            .into_any()
            .unbind()),
        kind::NONE => Ok(py.None()),
        kind::TRUE => Ok(true.into_pyobject(py)?.to_owned().into_any().unbind()),
        kind::FALSE => Ok(false.into_pyobject(py)?.to_owned().into_any().unbind()),
        kind::BYTES => Ok(copy_to_bytes(py, payload)?.into_any().unbind()),
        kind::TEXT => {
            let text = match payload {
                Payload::Inline(bytes) => {
                    std::str::from_utf8(bytes).map(|text| PyString::new(py, text))
                }
                envelope => {
                    let bytes = copy_to_bytes(py, envelope)?;
                    std::str::from_utf8(bytes.as_bytes()).map(|text| PyString::new(py, text))
                }
            };
            Ok(text.map_err(|_| malformed())?.into_any().unbind())
        }
        kind::PICKLE => {
            let data = match &mut message.payload {
                Payload::Inline(bytes) => PyBytes::new(py, bytes).into_any(),
                envelope => Bound::new(py, ReceivedPayload(std::mem::take(envelope)))?.into_any(),
            };
            let (buffers, references, descriptors) = (
                std::mem::take(&mut message.buffers),
                std::mem::take(&mut message.references),
                std::mem::take(&mut message.descriptors),
            );
            unpickle(py, &data, buffers, references, descriptors)
        }
        _ => Err(malformed()),
    }
}

/// The message as one pickle in bytes, for code that takes bytes out of a queue's reader and unpickles them itself.
///
/// # Errors
/// As [`loads`], where the message has to be rebuilt first.
pub fn portable_bytes(py: Python<'_>, mut message: Message) -> PyResult<Bound<'_, PyAny>> {
    let plain = message.buffers.is_empty()
        && message.references.is_empty()
        && message.descriptors.is_empty();
    if message.kind == kind::PICKLE && plain {
        return Ok(copy_to_bytes(py, &message.payload)?.into_any());
    }
    let object = load(py, &mut message)?;
    py.import(intern!(py, "_pickle"))?
        .call_method1(intern!(py, "dumps"), (object, 5))
}

/// The facade's part of pickling; remembered, since nothing can be imported any more when the interpreter ends.
fn facade(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static FACADE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let module = FACADE.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("bequeath._transfer")?.into_any().unbind())
    })?;
    Ok(module.bind(py))
}

fn loads_function(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let loads = LOADS.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("_pickle")?.getattr("loads")?.unbind())
    })?;
    Ok(loads.bind(py))
}

/// Fetches what later transfers need, so that they work while the interpreter ends.
///
/// # Errors
/// When the package is broken.
pub fn make_ready(py: Python<'_>) -> PyResult<()> {
    facade(py)?;
    loads_function(py)?;
    is_strict(py).map(|_| ())
}

fn unpickle(
    py: Python<'_>,
    data: &Bound<'_, PyAny>,
    buffers: Vec<Block>,
    references: Vec<AnyHandle>,
    descriptors: Vec<OwnedFd>,
) -> PyResult<Py<PyAny>> {
    let loads = loads_function(py)?;
    let descriptors = descriptors.into_iter().map(Some).collect();
    // Opened for every pickle: an object inside an outer one's `__setstate__` must not see the outer's numbers.
    let _opened = Opened::open(Transfer::Import {
        references,
        descriptors,
    });
    if buffers.is_empty() {
        return Ok(loads.call1((data,))?.unbind());
    }
    let adopted = PyList::empty(py);
    for block in buffers {
        adopted.append(Bound::new(py, AdoptedBuffer(block.adopt()))?)?;
    }
    let arguments = pyo3::types::PyDict::new(py);
    arguments.set_item(intern!(py, "buffers"), adopted)?;
    Ok(loads.call((data,), Some(&arguments))?.unbind())
}

fn malformed() -> PyErr {
    PyValueError::new_err("the message is malformed: shared memory was written by something else")
}

fn word(payload: &Payload) -> PyResult<[u8; 8]> {
    match payload {
        Payload::Inline(bytes) => bytes.as_slice().try_into().map_err(|_| malformed()),
        Payload::Envelope(_) => Err(malformed()),
    }
}

fn copy_to_bytes<'py>(py: Python<'py>, payload: &Payload) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, payload.len(), |into| {
        match payload {
            Payload::Inline(bytes) => into.copy_from_slice(bytes),
            Payload::Envelope(envelope) => {
                envelope.read_payload(0, into);
            }
        }
        Ok(())
    })
}

/// One pickler of the facade with the place it writes to; kept for the next message.
struct Pickler {
    dump: Py<PyAny>,
    clear_memo: Py<PyAny>,
    sink: Py<Sink>,
}

static SPARE_PICKLERS: Mutex<Vec<Pickler>> = Mutex::new(Vec::new());

impl Pickler {
    /// A spare one, or a new one: nested and concurrent messages each have their own.
    fn take(py: Python<'_>) -> PyResult<Self> {
        // Never held while Python runs.
        let spare = SPARE_PICKLERS.lock().ok().and_then(|mut spare| spare.pop());
        if let Some(pickler) = spare {
            if let Some(output) = SPARE_OUTPUT.lock().ok().and_then(|mut spare| spare.pop()) {
                pickler.sink.get().replace(output);
            }
            return Ok(pickler);
        }
        let sink = Bound::new(py, Sink(Mutex::new(Vec::with_capacity(1024))))?;
        let pickler = facade(py)?.call_method1(
            intern!(py, "TransferPickler"),
            (&sink, sink.getattr(intern!(py, "collect"))?),
        )?;
        Ok(Self {
            dump: pickler.getattr(intern!(py, "dump"))?.unbind(),
            clear_memo: pickler.getattr(intern!(py, "clear_memo"))?.unbind(),
            sink: sink.unbind(),
        })
    }

    /// The bytes written; the pickler goes back to the spares. (After an error it is dropped instead: its memo is half filled.)
    fn finish(self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.clear_memo.call0(py)?;
        let bytes = self.sink.get().replace(Vec::new());
        if let Ok(mut spare) = SPARE_PICKLERS.lock() {
            if spare.len() < 16 {
                spare.push(self);
            }
        }
        Ok(bytes)
    }
}

/// Where a pickler writes: its file object and buffer callback.
#[pyclass(frozen, module = "bequeath._engine")]
pub struct Sink(Mutex<Vec<u8>>);

impl Sink {
    fn replace(&self, with: Vec<u8>) -> Vec<u8> {
        self.0
            .lock()
            .map(|mut bytes| std::mem::replace(&mut *bytes, with))
            .unwrap_or_default()
    }

    /// MemoryError where a vector that grows by itself would end the program.
    fn append(&self, bytes: &[u8]) -> PyResult<()> {
        if let Ok(mut output) = self.0.lock() {
            output.try_reserve(bytes.len()).map_err(|_| {
                let needed = output.len() + bytes.len();
                PyMemoryError::new_err(format!("no memory for a pickle of {needed} bytes"))
            })?;
            output.extend_from_slice(bytes);
        }
        Ok(())
    }
}

#[pymethods]
impl Sink {
    /// Takes bytes of the pickle.
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(bytes) = data.cast::<PyBytes>() {
            return self.append(bytes.as_bytes());
        }
        let view = View::of(data)?;
        // SAFETY: the view keeps the range exported and in place; attached to the interpreter, nobody else runs meanwhile.
        self.append(unsafe { std::slice::from_raw_parts(view.first(), view.len()) })
    }

    /// pickle's `buffer_callback`: true keeps the buffer in the pickle, false says that it travels beside it.
    #[allow(clippy::unused_self)]
    fn collect(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = buffer.py();
        let Ok(view) = View::of(buffer) else {
            return Ok(true);
        };
        if view.len() < OUT_OF_BAND {
            return Ok(true);
        }
        let block = copy_to_block(py, &view)?;
        OPEN.with_borrow_mut(|open| match open.last_mut() {
            Some(Transfer::Export { buffers, .. }) => {
                buffers.push(block);
                Ok(false)
            }
            _ => Ok(true),
        })
    }
}

fn copy_to_block(py: Python<'_>, view: &View) -> PyResult<Block> {
    let session = current_session(py)?;
    let mut block = session.allocate(view.len()).map_err(shm_error)?;
    block.set_len(view.len());
    let (from, into, len) = (view.first() as usize, block.as_ptr() as usize, view.len());
    let copy = move || {
        // SAFETY: both ranges are `len` bytes long and held by the caller's `view` and `block`; they cannot overlap, since the
        // block is fresh. A racing writer of the source can at worst change which bytes are sent.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, into as *mut u8, len) }
    };
    if len >= DETACH {
        py.detach(copy);
    } else {
        copy();
    }
    Ok(block)
}

/// A contiguous view of any object with the buffer protocol.
struct View(Box<ffi::Py_buffer>);

impl View {
    fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        // SAFETY: all-zero is a valid Py_buffer to be filled in.
        let mut view = Box::new(unsafe { std::mem::zeroed::<ffi::Py_buffer>() });
        // SAFETY: the object is alive and the interpreter attached; the view is released in drop.
        let result = unsafe {
            ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, ffi::PyBUF_ANY_CONTIGUOUS)
        };
        if result == -1 {
            Err(PyErr::fetch(object.py()))
        } else {
            Ok(Self(view))
        }
    }

    fn first(&self) -> *const u8 {
        // An empty buffer may have no address.
        if self.0.buf.is_null() {
            std::ptr::NonNull::dangling().as_ptr()
        } else {
            self.0.buf.cast()
        }
    }

    fn len(&self) -> usize {
        usize::try_from(self.0.len).unwrap_or(0)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        Python::attach(|_| {
            // SAFETY: filled in by PyObject_GetBuffer and released once.
            unsafe { ffi::PyBuffer_Release(&raw mut *self.0) }
        });
    }
}

/// A received payload, readable while it is unpickled.
#[pyclass(frozen, module = "bequeath._engine")]
struct ReceivedPayload(Payload);

// SAFETY: owned memory behind a pointer; nothing is changed through a shared reference.
unsafe impl Sync for ReceivedPayload {}

#[pymethods]
impl ReceivedPayload {
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let (first, len) = slf.get().0.parts();
        // SAFETY: the range is owned by `slf`, which the view keeps alive; `view` is the interpreter's.
        unsafe { fill_view(slf.as_any(), view, first.cast_mut(), len, true, flags) }
    }
}

/// An out-of-band buffer that arrived: private writable memory of this process.
#[pyclass(frozen, module = "bequeath._engine")]
pub struct AdoptedBuffer(Adopted);

#[pymethods]
impl AdoptedBuffer {
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let adopted = &slf.get().0;
        // SAFETY: the range is owned by `slf`, which the view keeps alive; `view` is the interpreter's.
        unsafe {
            fill_view(
                slf.as_any(),
                view,
                adopted.as_ptr(),
                adopted.len(),
                false,
                flags,
            )
        }
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }
}

/// # Safety
/// `view` may be written; the range stays valid while `owner` lives.
unsafe fn fill_view(
    owner: &Bound<'_, PyAny>,
    view: *mut ffi::Py_buffer,
    first: *mut u8,
    len: usize,
    readonly: bool,
    flags: c_int,
) -> PyResult<()> {
    if view.is_null() {
        return Err(PyBufferError::new_err("no view to fill"));
    }
    let len = isize::try_from(len).map_err(|_| PyBufferError::new_err("too large for a view"))?;
    // SAFETY: per this function's contract.
    let result = unsafe {
        ffi::PyBuffer_FillInfo(
            view,
            owner.as_ptr(),
            first.cast(),
            len,
            c_int::from(readonly),
            flags,
        )
    };
    if result == -1 {
        Err(PyErr::fetch(owner.py()))
    } else {
        Ok(())
    }
}

pub(crate) fn is_strict(py: Python<'_>) -> PyResult<bool> {
    static SETTINGS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    SETTINGS
        .get_or_try_init(py, || {
            Ok::<_, PyErr>(py.import("bequeath._settings")?.into_any().unbind())
        })?
        .bind(py)
        .getattr(intern!(py, "strict"))?
        .extract()
}

pub(crate) fn current_session(py: Python<'_>) -> PyResult<Session> {
    crate::session::current(py)
}

pub(crate) fn shm_error(error: bequeath_shm::Error) -> PyErr {
    crate::error::EngineError::from(error).into()
}
