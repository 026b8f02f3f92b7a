#![allow(unsafe_code)]
//! The census: every process, place and reference of a session as it is found now, for people and tests.
//!
//! Nothing is locked and nothing written, so it can be taken of a session whose processes are stopped or
//! wedged, by a process that is no member ([`Observer`]). The price: what changes meanwhile may be seen half
//! before and half after. Of a session at rest it is exact.
//!
//! # Safety invariants
//! An observer's mappings cannot be written: it hands out references to [`Object`] types, which are atomics,
//! and its readers only load. (A store through one ends the observer's process, and changes nothing.)

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::*;

use bequeath_sync::ProcessId;

use crate::accounts::Accounts;
use crate::arena::Place;
use crate::block::ENVELOPE;
use crate::counting::Standing;
use crate::layout::{holds_objects, ObjectHeader, OBJECT_HEADER, PAGE};
use crate::object::Object;
use crate::reference::{BlockName, Reference};
use crate::session::{self, Session};
use crate::site::Maker;
use crate::space::{Access, Space};
use crate::words::{self, MemberName, Owner};
use crate::{Error, Result};

/// All that there is in a session.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Census {
    /// 128 random bits that tell this session from others.
    pub id: u128,
    /// Bytes of pages that the arena has, by the kernel's count.
    pub used: u64,
    /// The budget.
    pub limit: u64,
    /// Fixed size of the arena.
    pub size: u64,
    /// Its processes, former ones whose locks may still be held included.
    pub members: Vec<MemberSeen>,
    /// Slots and runs in use or kept warm.
    pub places: Vec<PlaceSeen>,
    /// Counted references.
    pub references: Vec<ReferenceSeen>,
    /// What the pages are used for.
    pub accounts: Accounts,
}

/// A process of the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct MemberSeen {
    /// The process; of a child that is being forked, its parent.
    pub process: ProcessId,
    /// `live`, `preparing`, `pending`, `leaving`, `left`, `settling`.
    pub standing: &'static str,
}

/// What a shared object is, by its header.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Identity {
    /// Its name.
    pub reference: Reference,
    /// One of [`crate::kind`].
    pub kind: u32,
    /// How many processes and envelopes refer to it.
    pub count: u64,
    /// Nobody refers to it any more, and what it held is being given back.
    pub dying: bool,
    /// Who made it, and where.
    pub maker: Maker,
    /// The block with its extra bytes, if they are not in the object itself.
    pub extra: Option<BlockName>,
    /// How many extra bytes there are.
    pub extra_length: u64,
}

/// Who has a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HeldBy {
    /// Nobody; its pages are kept for the next user (or given back).
    Free {
        /// Whether it has pages.
        warm: bool,
    },
    /// A process. `None`: one that is no member any more, whose things nobody has cleared up yet.
    Member(Option<ProcessId>),
    /// A process that is just moving it into the object named by `via`.
    Moving(Option<ProcessId>),
    /// It lies in this queue.
    Queued(Reference),
    /// It is part of this object.
    Kept(Reference),
    /// It hangs on this envelope.
    PartOf(BlockName),
    /// It travels in a socket.
    InKernel,
    /// It is a live object.
    Object,
    /// A word that no member writes.
    Unknown(u64),
}

/// One slot or run.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PlaceSeen {
    /// Where, and how often it was used before.
    pub name: BlockName,
    /// Bytes of the slot or run.
    pub size: u64,
    /// Bytes of pages that it has.
    pub backed: u64,
    /// Bytes in use, as its owner said.
    pub length: u64,
    /// Whether it is a run of whole extents.
    pub run: bool,
    /// Whether it carries a message's parts.
    pub envelope: bool,
    /// Who has it.
    pub held_by: HeldBy,
    /// The object that decides about a move.
    pub via: Option<Reference>,
    /// What stands in its header, in places that hold objects.
    pub object: Option<Identity>,
}

/// One counted reference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ReferenceSeen {
    /// The object.
    pub object: Option<Reference>,
    /// Whose: a process's, or an envelope's.
    pub held_by: HeldBy,
}

impl Session {
    /// Everything that the session has, found now.
    ///
    /// # Errors
    /// When the descriptor is lost.
    pub fn census(&self) -> Result<Census> {
        self.space().census()
    }
}

/// A session seen from outside: mapped to be read only, without becoming a member.
pub struct Observer {
    space: Space,
}

impl Observer {
    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    /// Looks at the session whose arena this descriptor is; it may be open for reading only.
    ///
    /// # Errors
    /// [`Error::NotASession`], [`Error::Corrupted`].
    pub fn open(descriptor: OwnedFd) -> Result<Self> {
        let (size, geometry) = session::geometry_of(&descriptor)?;
        let space = Space::new(descriptor, geometry, Access::Read)?;
        session::check_layout(&space, size)?;
        Ok(Self { space })
    }

    /// Everything that the session has, found now.
    ///
    /// # Errors
    /// When the descriptor is lost.
    pub fn census(&self) -> Result<Census> {
        self.space.census()
    }

    /// The body of an object that a census found. Read it only: the memory cannot be written.
    ///
    /// # Errors
    /// [`Error::Stale`], [`Error::WrongKind`].
    pub fn view<T: Object>(&self, object: &Identity) -> Result<&T> {
        let reference = object.reference;
        let place = self.space.place(reference.offset)?;
        let standing = self.space.glance(reference.offset)?;
        if standing.generation != reference.generation {
            return Err(Error::Stale(reference));
        }
        if standing.kind != T::KIND || place.size - OBJECT_HEADER < size_of::<T>() as u64 {
            return Err(Error::WrongKind {
                reference,
                found: standing.kind,
                wanted: T::KIND,
            });
        }
        let start = self.space.at(reference.offset)?;
        // SAFETY: every object slot is longer than the header.
        let body = unsafe { start.add(OBJECT_HEADER as usize) };
        // SAFETY: mapped as long as the space lives, 64-byte aligned, with room for T (just checked), and
        // `Object` types are atomics, valid whatever the bytes.
        Ok(unsafe { body.cast::<T>().as_ref() })
    }

    /// Copies bytes of the arena: `len` from `offset` on, all in one slot or run that a census found.
    ///
    /// # Errors
    /// [`Error::Corrupted`] for what lies outside.
    pub fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let from = self.space.at(at)?;
            let piece = (self.space.mapped_from(at) as usize).min(len - done);
            let into = &mut bytes[done..done + piece];
            // SAFETY: so many bytes are mapped behind `from`, and `into` has room for them.
            unsafe {
                from.as_ptr()
                    .copy_to_nonoverlapping(into.as_mut_ptr(), piece)
            };
            done += piece;
        }
        Ok(bytes)
    }
}

impl Space {
    /// The state of an object without locking it.
    pub(crate) fn glance(&self, offset: u64) -> Result<Standing> {
        Ok(Standing::parse(self.object_header(offset)?.cell.peek()))
    }

    fn census(&self) -> Result<Census> {
        let header = self.header();
        let [high, low] = header.session.each_ref().map(|half| half.load(Relaxed));
        let mut census = Census {
            id: u128::from(high) << 64 | u128::from(low),
            used: self.used()?,
            limit: header.limit.load(Relaxed),
            size: self.geometry.size,
            members: self
                .members()
                .filter_map(|seen| {
                    Some(MemberSeen {
                        process: seen.identity?,
                        standing: seen.standing.word(),
                    })
                })
                .collect(),
            accounts: self.accounts()?,
            ..Census::default()
        };
        self.for_each_place(|place| census.places.push(self.seen(&place)));
        self.for_each_reference(|_, slot| {
            census.references.push(ReferenceSeen {
                object: Reference::from_bits(slot.object.load(Relaxed)),
                held_by: self.holder(slot.owner.load(Acquire)),
            });
        });
        Ok(census)
    }

    fn seen(&self, place: &Place<'_>) -> PlaceSeen {
        let slot = place.slot;
        let length = slot.length.load(Relaxed);
        let small = place.size < PAGE;
        PlaceSeen {
            name: BlockName {
                offset: place.offset,
                generation: slot.generation.load(Relaxed),
            },
            size: place.size,
            backed: if small {
                place.size
            } else {
                (u64::from(slot.backed.load(Relaxed)) * PAGE).min(place.size)
            },
            length: length & !ENVELOPE,
            run: place.pool.is_none(),
            envelope: length & ENVELOPE != 0,
            held_by: self.holder(slot.owner.load(Acquire)),
            via: Reference::from_bits(slot.via.load(Relaxed)),
            object: place
                .pool
                .is_some_and(holds_objects)
                .then(|| self.identity(place.offset))
                .flatten(),
        }
    }

    pub(crate) fn identity(&self, offset: u64) -> Option<Identity> {
        let header: &ObjectHeader = self.object_header(offset).ok()?;
        let standing = self.glance(offset).ok()?;
        Some(Identity {
            reference: Reference {
                offset,
                generation: standing.generation,
            },
            kind: standing.kind,
            count: standing.count,
            dying: standing.dying,
            maker: header.maker.read(),
            extra: BlockName::from_bits(header.extra.load(Relaxed)),
            extra_length: header.extra_length.load(Relaxed),
        })
    }

    fn holder(&self, word: u64) -> HeldBy {
        let process = |name: MemberName| {
            let seen = self.see(name.index).filter(|seen| seen.name == name)?;
            seen.identity
        };
        match words::parse(word) {
            Owner::Free { warm } => HeldBy::Free { warm },
            Owner::InKernel => HeldBy::InKernel,
            Owner::Object => HeldBy::Object,
            Owner::Owned(name) => HeldBy::Member(process(name)),
            Owner::Outgoing(name) => HeldBy::Moving(process(name)),
            Owner::Queued => HeldBy::Queued(words::tied_to(word)),
            Owner::Kept => HeldBy::Kept(words::tied_to(word)),
            Owner::Part => {
                let Reference { offset, generation } = words::tied_to(word);
                HeldBy::PartOf(BlockName { offset, generation })
            }
            Owner::Unknown => HeldBy::Unknown(word),
        }
    }
}
