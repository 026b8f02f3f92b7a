//! Where the arenas of a process are: among its descriptors, or, where it closed those, among its
//! mapped files (which only the privileged may open).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bequeath_shm::Observer;

use crate::error::{Error, Result};

/// What the links of procfs say for an arena.
const TARGET: &str = "/memfd:bequeath (deleted)";

/// One arena, opened to be read.
pub(crate) struct Arena {
    pub(crate) observer: Observer,
    pub(crate) inode: u64,
    /// The process in which it was found.
    pub(crate) pid: u32,
}

pub(crate) fn arenas(pid: u32) -> Result<Vec<Arena>> {
    let home = PathBuf::from(format!("/proc/{pid}"));
    let about = std::fs::metadata(&home).map_err(|source| match source.kind() {
        ErrorKind::NotFound => Error::NoProcess(pid),
        _ => Error::Procfs { pid, source },
    })?;
    let links = links(&home.join("fd")).map_err(|source| refused(pid, about.uid(), source))?;
    let mut found = open_all(pid, &links)?;
    if found.is_empty() {
        let mapped = links_or_none(&home.join("map_files"));
        found = open_all(pid, &mapped)?;
        if found.is_empty() {
            return Err(if mapped.is_empty() {
                Error::NoSession(pid)
            } else {
                Error::DescriptorClosed(pid)
            });
        }
    }
    Ok(found)
}

fn refused(pid: u32, uid: u32, source: std::io::Error) -> Error {
    match source.kind() {
        ErrorKind::PermissionDenied => Error::NotOurs {
            pid,
            owner: user(uid),
        },
        ErrorKind::NotFound => Error::NoProcess(pid),
        _ => Error::Procfs { pid, source },
    }
}

/// The user's name, if the machine's own list knows it, and number.
fn user(uid: u32) -> String {
    let list = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = list.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    match name {
        Some(name) => format!("user {name} ({uid})"),
        None => format!("user {uid}"),
    }
}

fn links(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.flatten();
    let paths = entries.map(|entry| entry.path());
    Ok(paths
        .filter(|path| std::fs::read_link(path).is_ok_and(|target| target == Path::new(TARGET)))
        .collect())
}

fn links_or_none(folder: &Path) -> Vec<PathBuf> {
    links(folder).unwrap_or_default()
}

fn open_all(pid: u32, links: &[PathBuf]) -> Result<Vec<Arena>> {
    let mut known = BTreeSet::new();
    let mut found = Vec::new();
    for link in links {
        // One that was closed meanwhile, or may not be opened by us, is none.
        let Ok(file) = File::open(link) else { continue };
        let Ok(inode) = file.metadata().map(|about| about.ino()) else {
            continue;
        };
        if !known.insert(inode) {
            continue;
        }
        let observer = match Observer::open(file.into()) {
            Ok(observer) => observer,
            // Another memory file of that name, or one that is only just being made.
            Err(bequeath_shm::Error::NotASession(why)) if !why.contains("version") => continue,
            Err(source) => return Err(Error::Unreadable { pid, source }),
        };
        let here = std::fs::metadata("/proc/self/ns/pid").map_or(0, |about| about.ino());
        if observer.pid_namespace() != here && observer.pid_namespace() != 0 {
            return Err(Error::OtherNamespace(pid));
        }
        found.push(Arena {
            observer,
            inode,
            pid,
        });
    }
    Ok(found)
}
