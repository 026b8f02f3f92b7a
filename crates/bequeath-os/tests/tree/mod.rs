//! A recorded tree of files as the kernel shows them, in a folder that goes with the test.

use std::fs;
use std::path::{Path, PathBuf};

pub struct Tree(PathBuf);

impl Tree {
    pub fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let root = format!("bequeath-tree-{name}-{}", std::process::id());
        let tree = Self(std::env::temp_dir().join(root));
        for (path, text) in files {
            tree.write(path, text);
        }
        tree
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
