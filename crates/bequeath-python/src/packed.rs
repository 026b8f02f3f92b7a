//! A message outside any queue: what a start hands to the child it makes.
//!
//! The session's descriptor and its board's travel first, so that whoever unpacks is a member by then.
//!
//! A small message without handles is its own bytes. Anything else is an envelope in the hands of the kernel: the first descriptor holds
//! it, so a child that dies before it unpacks leaves nothing behind.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use bequeath_channel::{board, Message, Payload};
use bequeath_shm::{block::BlockName, Envelope, Room, Session};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::EngineError;
use crate::reduction::Listening;
use crate::transfer::{self, Purpose};

/// Larger payloads go into the arena.
const INLINE: usize = 1 << 16;
/// Descriptors of the session and of its board.
const SESSION: usize = 3;
const IN_BYTES: u8 = 0;
const IN_ENVELOPE: u8 = 1;
/// For a process outside of the session: the bytes, and no descriptors but the message's.
const OUTSIDE: u8 = 2;

/// An object on its way to a child: `bytes` and `descriptors`, both of which must arrive.
#[pyclass(frozen, module = "bequeath._engine")]
pub struct Packed {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

#[pymethods]
impl Packed {
    /// What to hand to `unpack`.
    #[getter]
    fn bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.bytes)
    }

    /// The same in one line of text for another program's argument: hexadecimal digits, a colon, the descriptors' numbers.
    #[getter]
    fn text(&self) -> String {
        let digits: String = self
            .bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let numbers = self
            .descriptors()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>();
        format!("{digits}:{}", numbers.join(","))
    }

    /// Numbers of the descriptors that must travel along, in order; open while this object lives.
    #[getter]
    fn descriptors(&self) -> Vec<i32> {
        self.descriptors.iter().map(AsRawFd::as_raw_fd).collect()
    }
}

impl Packed {
    /// The bytes.
    pub(crate) fn content(&self) -> &[u8] {
        &self.bytes
    }

    /// The descriptors that must travel along, in order.
    pub(crate) fn open_descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.descriptors.iter().map(AsFd::as_fd)
    }
}

/// Makes an object ready to be handed to a child at its start. `listener` is called with each object that is not of an exact
/// builtin type.
///
/// # Errors
/// Whatever pickling raises.
#[pyfunction]
#[pyo3(signature = (object, listener=None))]
pub fn pack(object: &Bound<'_, PyAny>, listener: Option<Py<PyAny>>) -> PyResult<Packed> {
    let py = object.py();
    let _listening = listener.map(Listening::with);
    let session = transfer::current_session(py)?;
    let mut pickled = transfer::dumps(object, Purpose::Start)?;
    let mut descriptors = session_descriptors(&session)?;
    let exported = std::mem::take(&mut pickled.descriptors);
    let payload = pickled.payload(py);
    if payload.len() <= INLINE && pickled.buffers.is_empty() && pickled.references.is_empty() {
        let mut bytes = vec![IN_BYTES, pickled.kind];
        bytes.extend_from_slice(payload);
        descriptors.extend(exported);
        return Ok(Packed { bytes, descriptors });
    }
    let room = Room {
        payload: payload.len(),
        blocks: pickled.buffers.len(),
        references: pickled.references.len(),
    };
    let mut envelope = Envelope::new(&session, room).map_err(transfer::shm_error)?;
    envelope.write_payload(0, payload);
    for block in std::mem::take(&mut pickled.buffers) {
        envelope.attach_block(block).map_err(transfer::shm_error)?;
    }
    for handle in &pickled.references {
        envelope
            .attach_reference(handle)
            .map_err(transfer::shm_error)?;
    }
    let kind = pickled.kind;
    let (name, token) = envelope.into_kernel_token().map_err(transfer::shm_error)?;
    descriptors.push(token);
    descriptors.extend(exported);
    let mut bytes = vec![IN_ENVELOPE, kind];
    bytes.extend_from_slice(&name.to_bits().to_ne_bytes());
    Ok(Packed { bytes, descriptors })
}

/// The same for a child that stays out of the session: nothing of it goes along.
///
/// # Errors
/// Whatever pickling raises, and the refusal of what lives in the session's memory.
#[pyfunction]
pub fn pack_outside(object: &Bound<'_, PyAny>) -> PyResult<Packed> {
    let mut pickled = transfer::dumps(object, Purpose::Outside)?;
    let mut bytes = vec![OUTSIDE, pickled.kind];
    bytes.extend_from_slice(pickled.payload(object.py()));
    let descriptors = std::mem::take(&mut pickled.descriptors);
    Ok(Packed { bytes, descriptors })
}

/// The object that a parent packed. Takes over the descriptors.
///
/// # Errors
/// Whatever unpickling raises; ValueError for bytes that `pack` did not make.
#[pyfunction]
pub fn unpack(py: Python<'_>, bytes: &[u8], descriptors: Vec<i32>) -> PyResult<Py<PyAny>> {
    let malformed = || PyValueError::new_err("not what pack() made");
    let (&form, rest) = bytes.split_first().ok_or_else(malformed)?;
    let (&kind, rest) = rest.split_first().ok_or_else(malformed)?;
    let mut descriptors = transfer::own_descriptors(descriptors)?;
    if form != OUTSIDE {
        descriptors = become_member(descriptors)?;
    }
    if matches!(form, IN_BYTES | OUTSIDE) {
        let payload = Payload::Inline(rest.to_vec());
        return transfer::loads(
            py,
            Message {
                kind,
                payload,
                descriptors,
                ..Message::default()
            },
        );
    }
    let bits = u64::from_ne_bytes(rest.try_into().map_err(|_| malformed())?);
    let name = BlockName::from_bits(bits)
        .filter(|_| form == IN_ENVELOPE && !descriptors.is_empty())
        .ok_or_else(malformed)?;
    let token = descriptors.remove(0);
    let session = transfer::current_session(py)?;
    let mut envelope =
        Envelope::from_kernel_token(&session, name, token).map_err(transfer::shm_error)?;
    let buffers = envelope.take_blocks().map_err(transfer::shm_error)?;
    let references = envelope.take_references().map_err(transfer::shm_error)?;
    transfer::loads(
        py,
        Message {
            kind,
            payload: Payload::Envelope(envelope),
            buffers,
            references,
            descriptors,
        },
    )
}

fn session_descriptors(session: &Session) -> PyResult<Vec<OwnedFd>> {
    let arena = session.descriptor().map_err(EngineError::from)?;
    let [sender, receiver] = board::descriptors().map_err(EngineError::from)?;
    Ok(vec![arena.try_clone_to_owned()?, sender, receiver])
}

/// Joins the session unless this process is in it; leaves the message's own descriptors.
fn become_member(mut descriptors: Vec<OwnedFd>) -> PyResult<Vec<OwnedFd>> {
    if descriptors.len() < SESSION {
        return Err(PyValueError::new_err("not what pack() made"));
    }
    let rest = descriptors.split_off(SESSION);
    let mut own = descriptors.into_iter();
    if let (Some(arena), Some(sender), Some(receiver)) = (own.next(), own.next(), own.next()) {
        crate::session::join(arena)?;
        if !board::is_installed() {
            board::install(sender, receiver).map_err(EngineError::from)?;
        }
    }
    Ok(rest)
}
