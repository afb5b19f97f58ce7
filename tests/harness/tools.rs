//! A disk with programs of this machine and the libraries that they need, for guests to run. Made without
//! root: `mke2fs -d` fills a filesystem as it makes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::host::skip;
use super::machine::scratch;

/// An ext4 image that goes when this does.
pub struct Tools(PathBuf);

impl Tools {
    /// `None`, after saying so, where one of the programs is missing.
    pub fn new(programs: &[&str]) -> Option<Tools> {
        let tree = scratch("tools");
        for directory in ["dev", "proc", "sys", "tmp", "mnt"] {
            fs::create_dir_all(tree.join(directory)).expect("make a directory");
        }
        for program in programs {
            let path = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(|place| Path::new(place).join(program));
            let Some(path) = path.iter().find(|path| path.exists()) else {
                skip(&format!("no {program}: run resources/install"));
                _ = fs::remove_dir_all(&tree);
                return None;
            };
            copy(path, &tree.join("bin").join(program));
            libraries(path).iter().for_each(|library| copy(library, &tree.join(&library[1..])));
        }
        let image = scratch("tools.img");
        let made = Command::new("/sbin/mke2fs")
            .args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"])
            .args([&tree, &image])
            .arg(format!("{}k", 4096 + size(&tree) / 1024 * 5 / 4))
            .output();
        assert!(made.expect("run mke2fs").status.success());
        _ = fs::remove_dir_all(&tree);
        Some(Tools(image))
    }

    /// As `--disk` takes it.
    pub fn disk(&self) -> [String; 2] {
        ["--disk".into(), format!("path={},ro", self.0.display())]
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

/// What the dynamic linker would load for it, itself included: the paths in `ldd`'s lines.
fn libraries(program: &Path) -> Vec<String> {
    let listed = Command::new("ldd").arg(program).output().expect("run ldd").stdout;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    listed.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

fn copy(from: impl AsRef<Path>, to: &Path) {
    fs::create_dir_all(to.parent().expect("below the tree")).expect("make a directory");
    fs::copy(from, to).expect("copy a file");
}

fn size(tree: &Path) -> u64 {
    let entries = fs::read_dir(tree).expect("a directory").flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size(&entry.path()) + 4096,
            Ok(meta) => meta.len().next_multiple_of(4096),
            Err(_) => 0,
        })
        .sum()
}
