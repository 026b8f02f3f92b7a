//! What `/proc/thread-self/status` tells of the calling thread, in one read.

use std::fs::File;
use std::io::{ErrorKind, Read};

use bequeath_os::{Errno, Error as OsError};

use crate::error::Result;

/// The lines that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) umask: u32,
    pub(crate) users: [u32; 4],
    pub(crate) groups: [u32; 4],
    pub(crate) supplementary: Vec<u32>,
    pub(crate) capabilities: [u64; 5],
    pub(crate) no_new_privs: i64,
    pub(crate) seccomp: i64,
    pub(crate) seccomp_filters: i64,
    pub(crate) blocked: u64,
    pub(crate) ignored: u64,
}

impl Status {
    /// Of the calling thread.
    pub(crate) fn read() -> Result<Self> {
        let text = told("/proc/thread-self/status").map_err(|error| failed("read", &error))?;
        Ok(Self::parse(&String::from_utf8_lossy(&text)))
    }

    /// A line that an old kernel does not have leaves its value at zero, on both sides alike.
    pub(crate) fn parse(text: &str) -> Self {
        let mut status = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            match name {
                "Umask" => status.umask = u32::from_str_radix(value, 8).unwrap_or(0),
                "Uid" => status.users = four(value),
                "Gid" => status.groups = four(value),
                "Groups" => status.supplementary = numbers(value).collect(),
                "CapInh" => status.capabilities[0] = hexadecimal(value),
                "CapPrm" => status.capabilities[1] = hexadecimal(value),
                "CapEff" => status.capabilities[2] = hexadecimal(value),
                "CapBnd" => status.capabilities[3] = hexadecimal(value),
                "CapAmb" => status.capabilities[4] = hexadecimal(value),
                "NoNewPrivs" => status.no_new_privs = value.parse().unwrap_or(0),
                "Seccomp" => status.seccomp = value.parse().unwrap_or(0),
                "Seccomp_filters" => status.seccomp_filters = value.parse().unwrap_or(0),
                "SigBlk" => status.blocked = hexadecimal(value),
                "SigIgn" => status.ignored = hexadecimal(value),
                _ => {}
            }
        }
        status
    }
}

/// What a file of procfs tells. (The standard library begins with 32 bytes, and reads on; the kernel writes the
/// text anew for each piece.)
pub(super) fn told(path: &str) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let (mut text, mut end) = (vec![0; 4096], 0);
    loop {
        match file.read(&mut text[end..]) {
            Ok(0) => break,
            Ok(length) => end += length,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if end == text.len() {
            text.resize(2 * end, 0);
        }
    }
    text.truncate(end);
    Ok(text)
}

pub(crate) fn failed(call: &'static str, error: &std::io::Error) -> OsError {
    OsError::new(call, Errno::from_io_error(error).unwrap_or(Errno::IO))
}

fn numbers(value: &str) -> impl Iterator<Item = u32> + '_ {
    value
        .split_ascii_whitespace()
        .filter_map(|number| number.parse().ok())
}

fn four(value: &str) -> [u32; 4] {
    let mut four = [0; 4];
    for (place, number) in four.iter_mut().zip(numbers(value)) {
        *place = number;
    }
    four
}

fn hexadecimal(value: &str) -> u64 {
    u64::from_str_radix(value, 16).unwrap_or(0)
}
