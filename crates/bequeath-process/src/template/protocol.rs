//! The messages between a template and those who start children through it.
//!
//! One packet each, on a socket that keeps packets whole. Both ends are the same version of the same
//! package (the template is started by it), which the first number of each packet confirms.

use std::os::fd::OwnedFd;

use crate::error::{Error, Result};
use crate::state::State;
use crate::wire::{Reader, Writer};

const VERSION: u32 = 1;

/// No packet is larger; what is, travels in a memory file.
pub(crate) const PACKET: usize = 96 * 1024;
/// Payloads up to this size travel in the packet.
pub(crate) const PAYLOAD_IN_PACKET: usize = 48 * 1024;

const HELLO: u32 = 1;
const START: u32 = 2;
const GOODBYE: u32 = 3;
const STARTED: u32 = 4;
const REFUSED: u32 = 5;
const FAILED: u32 = 6;
const ENDED: u32 = 7;
const STAYING: u32 = 8;
const COLLECTED: u32 = 9;
const NOTE: u32 = 10;

/// From a starter.
#[derive(Debug)]
pub(crate) enum Asked {
    /// Through the door, with a socket and a pidfd.
    Hello,
    /// With the working directory, the standard streams that are open, the payload if it is large,
    /// and the descriptors of the launch.
    Start(Box<Start>),
    /// The starter knows how this child ended: its number may be given to another.
    Collected(u32),
    /// The starter is about to end in order.
    Goodbye,
}

/// The body of a START.
#[derive(Debug)]
pub(crate) struct Start {
    /// Not by the child that is kept ahead: one did not answer.
    pub(crate) fresh: bool,
    /// One of several that start together and are needed before the next child is kept ahead.
    pub(crate) hurried: bool,
    pub(crate) state: State,
    pub(crate) streams: [bool; 3],
    pub(crate) header: Vec<u8>,
    /// None: in the memory file that comes as a descriptor.
    pub(crate) payload: Option<Vec<u8>>,
}

pub(crate) fn hello() -> Vec<u8> {
    head(HELLO).into_bytes()
}

pub(crate) fn goodbye() -> Vec<u8> {
    head(GOODBYE).into_bytes()
}

pub(crate) fn collected(pid: u32) -> Vec<u8> {
    let mut writer = head(COLLECTED);
    writer.u32(pid);
    writer.into_bytes()
}

pub(crate) fn start(
    fresh: bool,
    hurried: bool,
    state: &State,
    streams: [bool; 3],
    header: &[u8],
    payload: Option<&[u8]>,
) -> Vec<u8> {
    let mut writer = head(START);
    writer.u8(fresh.into());
    writer.u8(hurried.into());
    state.encode(&mut writer);
    for open in streams {
        writer.u8(open.into());
    }
    writer.bytes(header);
    writer.u8(payload.is_some().into());
    writer.bytes(payload.unwrap_or_default());
    writer.into_bytes()
}

impl Asked {
    pub(crate) fn decode(packet: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(packet);
        match kind(&mut reader)? {
            HELLO => Ok(Self::Hello),
            GOODBYE => Ok(Self::Goodbye),
            COLLECTED => Ok(Self::Collected(reader.u32("pid")?)),
            START => {
                let fresh = reader.u8("fresh")? != 0;
                let hurried = reader.u8("hurried")? != 0;
                let state = State::decode(&mut reader)?;
                let mut streams = [false; 3];
                for open in &mut streams {
                    *open = reader.u8("stream")? != 0;
                }
                let header = reader.bytes("header")?.to_vec();
                let here = reader.u8("payload")? != 0;
                let payload = reader.bytes("payload")?;
                let payload = here.then(|| payload.to_vec());
                Ok(Self::Start(Box::new(Start {
                    fresh,
                    hurried,
                    state,
                    streams,
                    header,
                    payload,
                })))
            }
            _ => Err(Error::Malformed { what: "request" }),
        }
    }
}

/// From the template.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// With the child's pidfd, and the line by which to tell it to go ahead. One that was kept `ahead` says a
    /// word there first.
    Started { pid: u32, ahead: bool },
    /// This template cannot give the child the starter's state.
    Refused(String),
    /// `fork` failed, with this errno.
    Failed(i32),
    /// A child ended, with this status.
    Ended(u32, i32),
    /// The answer to a goodbye when others still use the template.
    Staying,
    /// Something that a starter may want to tell its program.
    Note(String),
}

impl Told {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer;
        match self {
            Self::Started { pid, ahead } => {
                writer = head(STARTED);
                writer.u32(*pid);
                writer.u8((*ahead).into());
            }
            Self::Refused(reason) => {
                writer = head(REFUSED);
                writer.bytes(reason.as_bytes());
            }
            Self::Failed(errno) => {
                writer = head(FAILED);
                writer.i32(*errno);
            }
            Self::Ended(pid, status) => {
                writer = head(ENDED);
                writer.u32(*pid);
                writer.i32(*status);
            }
            Self::Staying => writer = head(STAYING),
            Self::Note(text) => {
                writer = head(NOTE);
                writer.bytes(text.as_bytes());
            }
        }
        writer.into_bytes()
    }

    pub(crate) fn decode(packet: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(packet);
        match kind(&mut reader)? {
            STARTED => Ok(Self::Started {
                pid: reader.u32("pid")?,
                ahead: reader.u8("ahead")? != 0,
            }),
            REFUSED => {
                let reason = reader.bytes("reason")?;
                Ok(Self::Refused(String::from_utf8_lossy(reason).into_owned()))
            }
            FAILED => Ok(Self::Failed(reader.i32("errno")?)),
            ENDED => Ok(Self::Ended(reader.u32("pid")?, reader.i32("status")?)),
            STAYING => Ok(Self::Staying),
            NOTE => {
                let text = reader.bytes("note")?;
                Ok(Self::Note(String::from_utf8_lossy(text).into_owned()))
            }
            _ => Err(Error::Malformed { what: "answer" }),
        }
    }
}

fn head(kind: u32) -> Writer {
    let mut writer = Writer::default();
    writer.u32(VERSION);
    writer.u32(kind);
    writer
}

fn kind(reader: &mut Reader<'_>) -> Result<u32> {
    if reader.u32("version")? != VERSION {
        return Err(Error::Malformed { what: "version" });
    }
    reader.u32("kind")
}

/// Descriptors in the order in which a START carries them.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) directory: OwnedFd,
    pub(crate) streams: [Option<OwnedFd>; 3],
    pub(crate) payload: Option<OwnedFd>,
    pub(crate) launch: Vec<OwnedFd>,
}

impl Carried {
    pub(crate) fn sort(start: &Start, descriptors: Vec<OwnedFd>) -> Result<Self> {
        let lacking = || Error::Malformed {
            what: "number of descriptors",
        };
        let mut descriptors = descriptors.into_iter();
        let directory = descriptors.next().ok_or_else(lacking)?;
        let mut streams = [None, None, None];
        for (stream, open) in streams.iter_mut().zip(start.streams) {
            if open {
                *stream = Some(descriptors.next().ok_or_else(lacking)?);
            }
        }
        let payload = match start.payload {
            Some(_) => None,
            None => Some(descriptors.next().ok_or_else(lacking)?),
        };
        Ok(Self {
            directory,
            streams,
            payload,
            launch: descriptors.collect(),
        })
    }
}
