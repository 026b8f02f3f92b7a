//! What procfs tells of a process without asking it.

use std::path::{Path, PathBuf};

/// How a template says on its command line which modules it does without.
const WITHOUT: &[u8] = b"--without=";

/// A process as the kernel shows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Process {
    pub(crate) comm: String,
    pub(crate) command: String,
    /// The words of its command line that begin with [`WITHOUT`], without that.
    pub(crate) without: Vec<String>,
    pub(crate) parent: Option<u32>,
    pub(crate) state: &'static str,
    pub(crate) threads: u32,
}

fn file(pid: u32, name: &str) -> Option<Vec<u8>> {
    std::fs::read(PathBuf::from(format!("/proc/{pid}/{name}"))).ok()
}

fn text(pid: u32, name: &str) -> Option<String> {
    file(pid, name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// `None` when there is no such process.
pub(crate) fn process(pid: u32) -> Option<Process> {
    let stat = text(pid, "stat")?;
    let (before, after) = stat.rsplit_once(')')?;
    let comm = before.split_once('(').map_or("", |(_, comm)| comm);
    let mut fields = after.split_whitespace();
    let state = match fields.next()? {
        "R" => "running",
        "S" => "sleeping",
        "D" => "in the kernel",
        "T" => "stopped",
        "t" => "traced",
        "Z" => "zombie",
        "X" | "x" => "dead",
        _ => "idle",
    };
    let parent = fields.next().and_then(|parent| parent.parse().ok());
    let threads = fields.nth(15).and_then(|threads| threads.parse().ok());
    let cmdline = file(pid, "cmdline").unwrap_or_default();
    Some(Process {
        comm: comm.to_owned(),
        command: command(&cmdline),
        without: without(&cmdline),
        parent: parent.filter(|parent| *parent != 0),
        state,
        threads: threads.unwrap_or(0),
    })
}

/// The command line without the path of its program, shortened.
fn command(cmdline: &[u8]) -> String {
    let mut words = cmdline
        .split(|byte| *byte == 0)
        .map(String::from_utf8_lossy)
        .filter(|word| !word.is_empty());
    let program = words.next().unwrap_or_default();
    let mut line = program.rsplit('/').next().unwrap_or_default().to_owned();
    for word in words {
        line.push(' ');
        line.extend(word.chars().filter(|letter| !letter.is_control()));
    }
    if line.chars().count() > 60 {
        line = line.chars().take(59).chain(['…']).collect();
    }
    line
}

fn without(cmdline: &[u8]) -> Vec<String> {
    cmdline
        .split(|byte| *byte == 0)
        .filter_map(|word| word.strip_prefix(WITHOUT))
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// What a thread is called.
pub(crate) fn thread_name(pid: u32, thread: u32) -> Option<String> {
    let name = text(pid, &format!("task/{thread}/comm"))?;
    Some(name.trim_end().to_owned())
}

/// For how many seconds no thread of a process has run, where the kernel tells (`CONFIG_SCHED_DEBUG`).
pub(crate) fn still_for(pid: u32) -> Option<f64> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut last = 0.0_f64;
    for thread in threads.flatten() {
        last = last.max(last_ran(&thread.path().join("sched"))?);
    }
    // Clocks of processors may differ a little.
    let still = (last_ran(Path::new("/proc/thread-self/sched"))? - last) / 1e3 - 0.01;
    (last > 0.0 && still > 0.0).then_some(still)
}

/// When a thread ran last, in milliseconds of the scheduler's clock.
fn last_ran(sched: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(sched).ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("se.exec_start"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

/// What a process that nobody reaped has left for its parent: the number that `wait` would give.
pub(crate) fn exit_status(pid: u32) -> Option<i32> {
    let stat = text(pid, "stat")?;
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(49)?.parse().ok()
}

/// Where a process has mapped a file: address ranges, and offsets in the file.
pub(crate) struct Mapped(Vec<(u64, u64, u64)>);

impl Mapped {
    pub(crate) fn of(pid: u32, inode: u64) -> Self {
        let maps = text(pid, "maps").unwrap_or_default();
        Self(maps.lines().filter_map(|line| range(line, inode)).collect())
    }

    /// The file's offset that stands at an address.
    pub(crate) fn offset_of(&self, address: u64) -> Option<u64> {
        let holds = |range: &&(u64, u64, u64)| (range.0..range.1).contains(&address);
        let (start, _, offset) = self.0.iter().find(holds)?;
        Some(offset + (address - start))
    }
}

fn range(line: &str, inode: u64) -> Option<(u64, u64, u64)> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let offset = fields.nth(1).and_then(number)?;
    let its = fields.nth(1)?.parse() == Ok(inode) && fields.next()?.starts_with("/memfd:bequeath");
    its.then_some((number(start)?, number(end)?, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_a_range_of_the_file() {
        let line = "7f00-7f40 rw-s 00400000 00:01 77 /memfd:bequeath (deleted)";
        assert_eq!(range(line, 77), Some((0x7f00, 0x7f40, 0x40_0000)));
        assert_eq!(range(line, 78), None);
        assert_eq!(range("7f00-7f40 rw-p 00000000 00:00 0", 0), None);
        let mapped = Mapped(vec![(0x7f00, 0x7f40, 0x40_0000)]);
        assert_eq!(mapped.offset_of(0x7f08), Some(0x40_0008));
        assert_eq!(mapped.offset_of(0x7f40), None);
    }

    #[test]
    fn a_command_line_is_its_program_and_arguments() {
        assert_eq!(
            command(b"/usr/bin/python\0app.py\0-v\0"),
            "python app.py -v"
        );
        assert_eq!(command(b""), "");
        let template = b"python\0-c\0main()\0--without=telemetry: thread send\0";
        assert_eq!(without(template), ["telemetry: thread send"]);
    }

    #[test]
    fn this_process_is_found() {
        let me = process(std::process::id()).expect("procfs shows it");
        assert!(me.threads > 0 && me.parent.is_some() && !me.command.is_empty());
    }
}
