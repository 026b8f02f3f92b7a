//! What `Connection.send` makes of an object: which kind of frame, by who may be at the other end.
//!
//! * A *member*: the other end of our own pipe. Large messages go by envelope, handles ride along.
//! * *Exposed*: the same, but the program has asked for a descriptor's number and may have handed it
//!   to another program (as loky and `subprocess` users do). Frames are multiprocessing's, but for
//!   objects that could not cross in them.
//! * A *stranger*: a descriptor of unknown origin. Frames are multiprocessing's; handles ride along
//!   if the kernel says that a member of this session made the other end.
//! * An *outsider*: a child that was started to stay out of the session. Nothing but bytes.

use std::os::fd::BorrowedFd;

use bequeath_channel::stream::{self, Stream};
use bequeath_channel::Outgoing;
use bequeath_os::socket;
use bequeath_shm::Session;
use pyo3::prelude::*;

use crate::blocking;
use crate::bytes_view::BytesView;
use crate::error::{EngineError, Result};
use crate::intern;
use crate::transfer::{self, kind, scarcity, Purpose};
use crate::wire;

/// Who may be at the other end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    /// A member of the session.
    Member,
    /// Probably one.
    Exposed,
    /// Anybody.
    Stranger,
    /// A process that was started to stay out of the session.
    Outsider,
}

/// One end, about to send.
pub struct Sending<'a> {
    /// What is known of the end.
    pub stream: &'a Stream,
    /// Its descriptor.
    pub fd: BorrowedFd<'a>,
    /// Who is at the other end.
    pub receiver: Receiver,
}

impl Sending<'_> {
    /// Sends an object.
    ///
    /// # Errors
    /// What pickling raises, the refusal of what cannot cross here, and those of sending.
    pub fn object(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = object.py();
        if let Some(pickle) = wire::small_pickle(object) {
            return self.bytes(py, &pickle);
        }
        if self.receiver == Receiver::Member && self.is_local() {
            return self.to_member(object);
        }
        match transfer::dumps_portable(object) {
            Ok(pickle) => {
                let view = BytesView::of(&pickle, false)?;
                self.plain(py, view.bytes())
            }
            Err(error) if self.may_carry() => self.to_member(object).inspect_err(|second| {
                second.set_cause(py, Some(error));
            }),
            Err(error) => Err(cannot_carry(object, error)),
        }
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// Those of sending.
    pub fn bytes(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<()> {
        if self.receiver != Receiver::Member || !self.is_local() || self.fits(bytes)? {
            return self.plain(py, bytes);
        }
        match self.message(py, Outgoing::bytes(kind::PICKLE, bytes)) {
            Err(error) if is_for_file_size(&error) => self.plain(py, bytes),
            sent => Ok(sent?),
        }
    }

    fn to_member(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = object.py();
        scarcity::forget();
        let mut pickled = match transfer::dumps(object, Purpose::Message) {
            Err(error) => match scarcity::behind(py, &error) {
                Some((_, why)) if why.is_for_file_size() => return self.without_memory(object),
                _ => return Err(error),
            },
            pickled => pickled?,
        };
        let message = pickled.outgoing(py);
        if message.is_bare() && (self.receiver != Receiver::Member || self.fits(message.payload)?) {
            return self.plain(py, message.payload);
        }
        match self.message(py, message) {
            Err(error) if is_for_file_size(&error) => self.without_memory(object),
            sent => Ok(sent?),
        }
    }

    /// What RLIMIT_FSIZE leaves no shared memory for crosses through the socket, as with multiprocessing.
    fn without_memory(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let pickle = transfer::dumps_portable(object)?;
        let view = BytesView::of(&pickle, false)?;
        self.plain(object.py(), view.bytes())
    }

    fn plain(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<()> {
        Ok(blocking::wait(py, "receiver", |interrupt| {
            self.stream.send_plain(self.fd, bytes, interrupt)
        })?)
    }

    fn message(&self, py: Python<'_>, message: Outgoing<'_>) -> Result<()> {
        let session = transfer::current_session(py)?;
        blocking::wait(py, "receiver", |interrupt| {
            self.stream
                .send_message(self.fd, &session, message, interrupt)
        })
    }

    fn is_local(&self) -> bool {
        self.stream.is_local(self.fd).unwrap_or(false)
    }

    /// Whether a payload goes in a plain frame, without the session.
    fn fits(&self, payload: &[u8]) -> PyResult<bool> {
        let fits = self.stream.fits_frame(self.fd, payload.len());
        fits.map_err(|error| EngineError::from(error).into())
    }

    /// Whether a frame that only members understand may be sent.
    fn may_carry(&self) -> bool {
        match self.receiver {
            Receiver::Outsider => return false,
            Receiver::Stranger if self.is_local() => {}
            _ => return self.is_local(),
        }
        match (socket::peer(self.fd), Session::current()) {
            (Ok(peer), Some(session)) => session.has_member(peer.pid),
            _ => false,
        }
    }
}

fn is_for_file_size(error: &EngineError) -> bool {
    matches!(error, EngineError::Stream(stream::Error::Session(why)) if why.is_for_file_size())
}

/// Says what is refused, and that this connection is the reason, where it is.
fn cannot_carry(object: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let py = object.py();
    let explain = || {
        // Up to 3.11 an error's traceback is not in the exception yet; it tells whose code raised it.
        if let Some(trace) = error.traceback(py) {
            let name = intern!(py, "__traceback__");
            error.value(py).setattr(name, trace)?;
        }
        py.import(intern!(py, "bequeath._transfer"))?
            .call_method1(intern!(py, "cannot_carry"), (object, error.value(py)))
    };
    match explain() {
        Ok(better) if !better.is(error.value(py)) => {
            let better = PyErr::from_value(better);
            better.set_cause(py, Some(error));
            better
        }
        _ => error,
    }
}
