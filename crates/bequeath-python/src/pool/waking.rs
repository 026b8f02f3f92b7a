//! How other threads of the process wake the driver's thread: they leave it something, or say that there is
//! something to look at, and raise the descriptor that workers raise, if it sleeps or is about to.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{fence, AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bequeath_os::eventfd;

use super::act::Later;
use super::driver::PoolDriver;

/// What wakes the driver's thread.
pub struct Waking {
    /// Until all is over.
    fd: Mutex<Option<Arc<OwnedFd>>>,
    woken: AtomicBool,
    /// The driver's thread sleeps, or is about to.
    in_poll: AtomicBool,
    /// What is left to it.
    left: Mutex<Vec<Later>>,
}

impl Waking {
    pub fn new(fd: OwnedFd) -> Self {
        Self {
            fd: Mutex::new(Some(Arc::new(fd))),
            woken: AtomicBool::new(false),
            in_poll: AtomicBool::new(false),
            left: Mutex::default(),
        }
    }

    fn fd(&self) -> MutexGuard<'_, Option<Arc<OwnedFd>>> {
        self.fd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody need be woken any more.
    pub fn end(&self) {
        let fd = self.fd().take();
        drop(fd);
    }
}

impl PoolDriver {
    pub(super) fn bell_fd(&self) -> Option<Arc<OwnedFd>> {
        self.waking.fd().clone()
    }

    pub(super) fn left(&self) -> MutexGuard<'_, Vec<Later>> {
        let left = self.waking.left.lock();
        left.unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves something to the driver's thread.
    pub(super) fn leave(&self, later: Later) {
        self.left().push(later);
        self.ring();
    }

    /// The driver's thread shall look again at what it waits for.
    pub(super) fn wake(&self) {
        self.waking.woken.store(true, Ordering::SeqCst);
        self.ring();
    }

    /// The driver's thread is to look at what there is now.
    fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.waking.in_poll.swap(false, Ordering::SeqCst) {
            if let Some(fd) = self.bell_fd() {
                let _ = eventfd::raise(fd.as_fd()); // one of ours, that is open
            }
        }
    }

    /// Whether there is something to do instead; who comes later rings.
    pub(super) fn about_to_poll(&self) -> bool {
        self.waking.in_poll.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        !self.left().is_empty() || self.waking.woken.swap(false, Ordering::SeqCst)
    }

    pub(super) fn polled(&self) {
        self.waking.in_poll.store(false, Ordering::SeqCst);
    }
}
