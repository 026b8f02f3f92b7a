//! An object pickled for somebody else than the next receiver.
//!
//! Who passes it on neither rebuilds nor fails for it: what it cannot import is not its affair, handles go on as they came, and only the last
//! receiver opens it. A small one is part of each message that carries it. A larger one, or one with buffers beside it, is a message
//! in a queue of its own, so that its bytes are copied once, however many hands it goes through.

use std::os::fd::{AsRawFd, OwnedFd};

use bequeath_channel::{Message, Payload, Queue};
use bequeath_os::Deadline;
use bequeath_shm::AnyHandle;
use bequeath_sync::Never;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::error::{EngineError, Result};
use crate::once::Once;

use super::loads::malformed;
use super::{
    check, current_session, dumps_once_as, export, export_descriptor, import, import_descriptor,
    load, own_descriptors, Purpose,
};

/// Payloads up to this size travel within messages: a queue takes more memory than that.
const WITHIN: usize = 16 << 10;

/// An object that only its last receiver opens.
#[pyclass(frozen, module = "bequeath._engine")]
pub struct Sealed(Contents);

enum Contents {
    Within {
        kind: u8,
        payload: Vec<u8>,
        references: Vec<AnyHandle>,
        descriptors: Vec<OwnedFd>,
    },
    /// One message per opening.
    Apart(Queue),
}

#[pymethods]
impl Sealed {
    /// Pickles the object, which may be opened so often; `called` is what its parts are called where one cannot be pickled.
    #[new]
    #[pyo3(signature = (object, openings=1, called=""))]
    fn new(object: &Bound<'_, PyAny>, openings: usize, called: &str) -> PyResult<Self> {
        let py = object.py();
        let mut pickled = dumps_once_as(object, Purpose::Message, &called)?;
        let message = pickled.outgoing(py);
        if message.payload.len() <= WITHIN && message.buffers.is_empty() {
            return Ok(Self(Contents::Within {
                kind: message.kind,
                payload: message.payload.to_vec(),
                references: message.references,
                descriptors: message.descriptors,
            }));
        }
        let session = current_session(py)?;
        let queue = Queue::create(&session, None).map_err(EngineError::from)?;
        put(&queue, message)?;
        for _ in 1..openings {
            let mut again = dumps_once_as(object, Purpose::Message, &called)?;
            put(&queue, again.outgoing(py))?;
        }
        Ok(Self(Contents::Apart(queue)))
    }

    /// The object.
    fn open(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut message = Message::default();
        match &self.0 {
            Contents::Within {
                kind,
                payload,
                references,
                descriptors,
            } => {
                let copies: std::io::Result<_> =
                    descriptors.iter().map(OwnedFd::try_clone).collect();
                message.kind = *kind;
                message.payload = Payload::Inline(payload.clone());
                message.references.clone_from(references);
                message.descriptors = copies?;
            }
            Contents::Apart(queue) => queue
                .recv_into(&mut message, Deadline::PAST, &mut Never)
                .map_err(EngineError::from)?,
        }
        load(py, &mut message)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let py = slf.py();
        check(slf.as_any())?;
        static REBUILD: Once<Py<PyAny>> = Once::new();
        let rebuild = REBUILD.get_or_try_init(py, || {
            let engine = py.import("bequeath._engine")?;
            Ok::<_, PyErr>(engine.getattr("rebuild_sealed")?.unbind())
        })?;
        let hand_in = |handle: &AnyHandle| export(slf.as_any(), handle);
        let arguments = match &slf.get().0 {
            Contents::Within {
                kind,
                payload,
                references,
                descriptors,
            } => {
                let references = references.iter().map(hand_in);
                let descriptors = descriptors
                    .iter()
                    .map(|one| export_descriptor(one.as_raw_fd()));
                let references = PyTuple::new(py, references.collect::<PyResult<Vec<_>>>()?)?;
                let descriptors = PyTuple::new(py, descriptors.collect::<PyResult<Vec<_>>>()?)?;
                let payload = PyBytes::new(py, payload);
                (Some(*kind), Some(payload), references, descriptors).into_pyobject(py)?
            }
            Contents::Apart(queue) => {
                let queue = PyTuple::new(py, [hand_in(&queue.handle())?])?;
                let nothing = PyTuple::empty(py);
                (None::<u8>, None::<Bound<'py, PyBytes>>, queue, nothing).into_pyobject(py)?
            }
        };
        (rebuild.bind(py), arguments).into_pyobject(py)
    }
}

/// What a message says of a sealed object; with no kind, it is in a queue.
///
/// # Errors
/// As for all that is rebuilt from a message.
#[pyfunction]
pub fn rebuild_sealed(
    kind: Option<u8>,
    payload: Option<&[u8]>,
    references: Vec<usize>,
    descriptors: Vec<usize>,
) -> PyResult<Sealed> {
    let references: Vec<_> = references
        .into_iter()
        .map(import)
        .collect::<PyResult<_>>()?;
    let (Some(kind), Some(payload)) = (kind, payload) else {
        let handle = references.first().ok_or_else(malformed)?;
        let queue = Queue::from_handle(handle).map_err(EngineError::from)?;
        return Ok(Sealed(Contents::Apart(queue)));
    };
    let descriptors = descriptors
        .into_iter()
        .map(import_descriptor)
        .collect::<PyResult<_>>()?;
    Ok(Sealed(Contents::Within {
        kind,
        payload: payload.to_vec(),
        references,
        descriptors: own_descriptors(descriptors)?,
    }))
}

fn put(queue: &Queue, message: bequeath_channel::Outgoing<'_>) -> Result<()> {
    let mut prepared = queue.prepare(message)?;
    Ok(queue.send_prepared(&mut prepared, Deadline::PAST, &mut Never)?)
}
