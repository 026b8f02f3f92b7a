//! Descriptors inside serde types: files, sockets, pipes.
//!
//! [`Descriptor`] is for fields that shall be descriptors; this module itself is for fields that
//! are something else made of one: `#[serde(with = "bequeath::descriptor")] log: std::fs::File`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::transfer::{export_descriptor, import_descriptor, short_name};

/// A descriptor that may be sent: the receiver gets its own copy of it.
///
/// # After fork
/// Parent and child have the same open file, each by its own descriptor.
///
/// # If a peer dies
/// Copies that were sent live on, also in messages that nobody has received yet.
///
/// ```
/// use bequeath::Descriptor;
/// let file = std::fs::File::open("/dev/null")?;
/// let descriptor = Descriptor::from(file);
/// let file = std::fs::File::from(descriptor);
/// # drop(file); Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Descriptor(OwnedFd);

impl<T: Into<OwnedFd>> From<T> for Descriptor {
    fn from(owner: T) -> Self {
        Self(owner.into())
    }
}

macro_rules! from_descriptor {
    ($($target:ty),* $(,)?) => {$(
        impl From<Descriptor> for $target {
            fn from(descriptor: Descriptor) -> Self {
                descriptor.0.into()
            }
        }
    )*};
}

from_descriptor!(
    std::fs::File,
    std::net::TcpListener,
    std::net::TcpStream,
    std::net::UdpSocket,
    std::os::unix::net::UnixDatagram,
    std::os::unix::net::UnixListener,
    std::os::unix::net::UnixStream,
    std::process::Stdio,
);

impl Descriptor {
    /// Gives the descriptor itself up.
    ///
    /// ```
    /// let descriptor = bequeath::Descriptor::from(std::fs::File::open("/dev/null")?);
    /// let fd: std::os::fd::OwnedFd = descriptor.into_fd();
    /// # drop(fd); Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Serialize for Descriptor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Descriptor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize::<OwnedFd, D>(deserializer).map(Self)
    }
}

/// For serde's `with`: sends a copy of the descriptor of a file, socket or pipe.
///
/// ```
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Job {
///     #[serde(with = "bequeath::descriptor")]
///     log: std::fs::File,
/// }
/// ```
///
/// # Errors
/// Outside a transfer, or when descriptors ran out.
pub fn serialize<T: AsFd, S: Serializer>(owner: &T, serializer: S) -> Result<S::Ok, S::Error> {
    export_descriptor(owner.as_fd(), short_name::<T>(), serializer)
}

/// For serde's `with`: makes a file, socket or pipe of the descriptor that arrived.
///
/// ```
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Work(#[serde(with = "bequeath::descriptor")] std::net::TcpStream);
/// ```
///
/// # Errors
/// When no descriptor came with the message.
pub fn deserialize<'de, T: From<OwnedFd>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    import_descriptor(deserializer).map(T::from)
}
