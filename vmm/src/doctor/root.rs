//! The host's files, below a folder that a test may choose.

use std::path::{Path, PathBuf};
use std::{fs, io};

pub struct Root(PathBuf);

impl Root {
    pub fn host() -> Root {
        Root("/".into())
    }

    /// The text of a file, trimmed.
    pub fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.0.join(path)).ok().map(|text| text.trim().to_owned())
    }

    pub fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.read(path)?.parse().ok()
    }

    /// Names in a folder, in order; none where there is no folder.
    pub fn list(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(path)).into_iter().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Whether a device can be opened for reading and writing.
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<()> {
        fs::OpenOptions::new().read(true).write(true).open(self.0.join(path)).map(drop)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A tree of a test's own, gone with it.
    pub struct Tree(pub Root);

    impl Tree {
        pub fn new(name: &str, files: &[(&str, &str)]) -> Tree {
            let top = std::env::temp_dir().join(format!("vmm-doctor-{name}-{}", std::process::id()));
            for (path, text) in files {
                let path = top.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Tree(Root(top))
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            _ = fs::remove_dir_all(&self.0.0);
        }
    }

    #[test]
    fn what_is_not_there_is_nothing() {
        let tree = Tree::new("root", &[("a/b", " 7\n"), ("a/c", "x")]);
        assert_eq!((tree.0.number("a/b"), tree.0.number("a/c"), tree.0.number("d")), (Some(7), None, None));
        assert_eq!((tree.0.list("a"), tree.0.list("d")), (vec!["b".into(), "c".into()], vec![]));
        assert_eq!(tree.0.open("d").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
