//! A state as bytes.

use bequeath_os::attributes::LIMITS;

use super::{Environment, Fixed, Settable, State, NAMESPACES};
use crate::error::{Error, Result};
use crate::wire::{Reader, Writer};

impl State {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        let settable = &self.settable;
        writer.u32(settable.umask);
        for (soft, hard) in settable.limits {
            writer.u64(soft);
            writer.u64(hard);
        }
        let (policy, priority) = settable.scheduler;
        for number in [settable.nice, policy, priority, settable.io_priority] {
            writer.i32(number);
        }
        writer.u64(settable.timer_slack);
        writer.i32(settable.oom_score_adj);
        writer.i32(settable.group);
        writer.u64(settable.blocked);
        writer.u64(settable.ignored);
        writer.list(&settable.affinity, |writer, word| writer.u64(*word));
        let fixed = &self.fixed;
        writer.i32(fixed.session);
        for number in fixed.users.iter().chain(&fixed.groups) {
            writer.u32(*number);
        }
        writer.list(&fixed.supplementary, |writer, group| writer.u32(*group));
        for word in fixed.capabilities {
            writer.u64(word);
        }
        for word in &fixed.restrictions {
            writer.u64(*word as u64);
        }
        writer.u64(fixed.root.0);
        writer.u64(fixed.root.1);
        writer.bytes(&fixed.cgroup);
        for inode in fixed.namespaces {
            writer.u64(inode);
        }
        writer.bytes(self.environment.as_block());
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            settable: settable(reader)?,
            fixed: fixed(reader)?,
            environment: Environment::from_block(reader.bytes("environment")?.to_vec()),
        })
    }
}

fn settable(reader: &mut Reader<'_>) -> Result<Settable> {
    let umask = reader.u32("umask")?;
    let mut limits = [(0, 0); LIMITS];
    for limit in &mut limits {
        *limit = (reader.u64("limit")?, reader.u64("limit")?);
    }
    Ok(Settable {
        umask,
        limits,
        nice: reader.i32("nice")?,
        scheduler: (reader.i32("policy")?, reader.i32("priority")?),
        io_priority: reader.i32("io priority")?,
        timer_slack: reader.u64("timer slack")?,
        oom_score_adj: reader.i32("oom adjustment")?,
        group: reader.i32("process group")?,
        blocked: reader.u64("blocked signals")?,
        ignored: reader.u64("ignored signals")?,
        affinity: reader.list("affinity", |reader| reader.u64("affinity"))?,
    })
}

fn fixed(reader: &mut Reader<'_>) -> Result<Fixed> {
    Ok(Fixed {
        session: reader.i32("session")?,
        users: array(reader, |reader| reader.u32("user"))?,
        groups: array(reader, |reader| reader.u32("group"))?,
        supplementary: reader.list("groups", |reader| reader.u32("groups"))?,
        capabilities: array(reader, |reader| reader.u64("capabilities"))?,
        restrictions: array(reader, |reader| Ok(reader.u64("restrictions")? as i64))?,
        root: (reader.u64("root")?, reader.u64("root")?),
        cgroup: reader.bytes("cgroup")?.to_vec(),
        namespaces: array::<_, { NAMESPACES.len() }>(reader, |reader| reader.u64("namespace"))?,
    })
}

fn array<T, const N: usize>(
    reader: &mut Reader<'_>,
    mut one: impl FnMut(&mut Reader<'_>) -> Result<T>,
) -> Result<[T; N]> {
    let values: Vec<T> = (0..N).map(|_| one(reader)).collect::<Result<_>>()?;
    values
        .try_into()
        .map_err(|_| Error::Malformed { what: "state" })
}
