//! Which kernel modules must be loaded, and in what order.
//!
//! A kernel's `lib/modules/VERSION` is read as it is, with or without depmod's files: names come
//! from `modules.dep` or `modules.order`, needs from `modules.dep` or from each module itself.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::modinfo;

/// A module to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// With `_` for `-`, as the kernel lists it.
    pub name: String,
    pub path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{0} has neither modules.dep nor modules.order: is it a kernel's lib/modules/VERSION?")]
    NoList(PathBuf),
    #[error("module {name}: not in {tree}, and not built in")]
    Missing { name: String, tree: PathBuf },
    #[error("module {name}: listed in {tree} as {listed}, but there is no such file")]
    Absent { name: String, tree: PathBuf, listed: String },
    #[error("{path} {source}")]
    Unreadable { path: PathBuf, source: modinfo::Error },
    #[error(
        "{0} is compressed, and without modules.dep only the module itself knows what it needs: run depmod"
    )]
    Compressed(PathBuf),
    #[error("module {0} needs itself, by way of the modules that it needs")]
    Loop(String),
    #[error("more than {MAX_MODULES} modules are needed")]
    TooMany,
}

/// No set of devices needs more; a list that says so is wrong.
const MAX_MODULES: usize = 256;
/// The lists of the largest distribution kernels have 1 MiB.
const MAX_LIST: u64 = 16 << 20;
/// A module's file, plain first, then as distributions compress it.
const SUFFIXES: [&str; 4] = ["", ".xz", ".zst", ".gz"];

/// The `lib/modules/VERSION` that belongs to `kernel`, if one is found: beside its `boot`
/// directory, around it (`lib/modules/VERSION/vmlinuz`), or this host's own.
pub fn beside(kernel: &Path, version: Option<&str>) -> Option<PathBuf> {
    let kernel = kernel.canonicalize().ok()?;
    let directory = kernel.parent()?;
    let version = version.or_else(|| {
        let name = kernel.file_name()?.to_str()?;
        ["vmlinuz-", "vmlinux-", "bzImage-"].iter().find_map(|prefix| name.strip_prefix(prefix))
    });
    let mut candidates = vec![directory.to_owned()];
    if let Some(version) = version {
        let tree = Path::new("lib/modules").join(version);
        candidates.extend(directory.parent().map(|root| root.join(&tree)));
        candidates.push(directory.join(&tree));
        candidates.push(Path::new("/").join(tree));
    }
    candidates
        .into_iter()
        .find(|tree| tree.join("modules.order").is_file() || tree.join("modules.dep").is_file())
}

/// A kernel's modules, as its lists tell.
pub struct Tree {
    root: PathBuf,
    /// `modules.dep` (`a.ko: b.ko c.ko`) or else `modules.order` (`a.ko`).
    list: String,
    /// Whether the list tells what a module needs.
    tells_needs: bool,
    builtin: String,
}

impl Tree {
    pub fn open(root: &Path) -> Result<Tree, Error> {
        let read = |name: &str| read_list(&root.join(name));
        let (list, tells_needs) = match read("modules.dep")? {
            Some(list) => (list, true),
            None => (read("modules.order")?.ok_or_else(|| Error::NoList(root.to_owned()))?, false),
        };
        let builtin = read("modules.builtin")?.unwrap_or_default();
        Ok(Tree { root: root.to_owned(), list, tells_needs, builtin })
    }

    /// Whether the module is here or in the kernel itself.
    pub fn has(&self, name: &str) -> bool {
        find(&self.list, name).is_some() || find(&self.builtin, name).is_some()
    }

    /// The modules to load so that all of `wanted` are there: what is needed comes first, nothing
    /// comes twice, what is built in is left out.
    pub fn resolve(&self, wanted: &[&str]) -> Result<Vec<Module>, Error> {
        let mut order = Vec::new();
        for name in wanted {
            self.visit(name, &mut Vec::new(), &mut order)?;
        }
        Ok(order)
    }

    fn visit(&self, name: &str, above: &mut Vec<String>, order: &mut Vec<Module>) -> Result<(), Error> {
        let name = name.replace('-', "_");
        if order.iter().any(|module| module.name == name) || find(&self.builtin, &name).is_some() {
            return Ok(());
        }
        if above.contains(&name) {
            return Err(Error::Loop(name));
        }
        if above.len() + order.len() >= MAX_MODULES {
            return Err(Error::TooMany);
        }
        let Some(line) = find(&self.list, &name) else {
            return Err(Error::Missing { name, tree: self.root.clone() });
        };
        let (listed, needs) = line.split_once(':').unwrap_or((line, ""));
        let path = self.file(&name, listed)?;
        let needs =
            if self.tells_needs { needs.split_whitespace().map(stem).collect() } else { depends(&path)? };
        above.push(name);
        for need in needs {
            self.visit(&need, above, order)?;
        }
        order.extend(above.pop().map(|name| Module { name, path }));
        Ok(())
    }

    fn file(&self, name: &str, listed: &str) -> Result<PathBuf, Error> {
        let candidates = SUFFIXES.iter().map(|suffix| self.root.join(format!("{listed}{suffix}")));
        candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| Error::Absent {
            name: name.to_owned(),
            tree: self.root.clone(),
            listed: listed.to_owned(),
        })
    }
}

/// What the module at `path` says that it needs.
fn depends(path: &Path) -> Result<Vec<String>, Error> {
    if path.extension().is_none_or(|extension| extension != "ko") {
        return Err(Error::Compressed(path.to_owned()));
    }
    let file = File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    modinfo::depends(&file).map_err(|source| Error::Unreadable { path: path.to_owned(), source })
}

/// `kernel/drivers/misc/pvpanic/pvpanic-mmio.ko.xz` → `pvpanic_mmio`.
fn stem(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split_once(".ko").map_or(file, |(stem, _)| stem).replace('-', "_")
}

/// The line of `list` that begins with the path of module `name` (which has no `-`).
fn find<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    // What comes before the first `_` is spelt alike in both; the lists are long, and this is the
    // part of them that a fast search can find.
    let certain = name.split('_').next().unwrap_or(name);
    list.match_indices(certain).find_map(|(at, _)| {
        let start = list[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let line = list[start..].lines().next()?;
        let (directory, file) = line.split_at_checked(at - start)?;
        let file = file.split_once(".ko")?.0;
        let same = file.len() == name.len()
            && file.bytes().zip(name.bytes()).all(|(a, b)| a == b || (a == b'-' && b == b'_'));
        // Not a name's end, and not behind the colon of another module's line.
        let whole = directory.is_empty() || directory.ends_with('/');
        (same && whole && !directory.contains(':')).then_some(line)
    })
}

/// `None` where there is no such file.
fn read_list(path: &Path) -> Result<Option<String>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(meta) if meta.len() > MAX_LIST => Err(failed(io::ErrorKind::FileTooLarge.into())),
        Ok(meta) if meta.is_file() => fs::read_to_string(path).map(Some).map_err(failed),
        Ok(_) => Err(failed(io::ErrorKind::InvalidInput.into())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::tempdir::TempDir;

    /// A tree of modules `(name, depends)`, listed in `modules.order`.
    fn tree(modules: &[(&str, &str)], builtin: &str) -> (TempDir, Tree) {
        let dir = TempDir::new().unwrap();
        let root = dir.as_path();
        fs::create_dir(root.join("kernel")).unwrap();
        let mut order = String::new();
        for (name, depends) in modules {
            fs::write(root.join(format!("kernel/{name}.ko")), modinfo::synthetic(depends)).unwrap();
            order.push_str(&format!("kernel/{name}.ko\n"));
        }
        fs::write(root.join("modules.order"), order).unwrap();
        fs::write(root.join("modules.builtin"), builtin).unwrap();
        let tree = Tree::open(root).unwrap();
        (dir, tree)
    }

    fn names(result: Result<Vec<Module>, Error>) -> Vec<String> {
        result.unwrap().into_iter().map(|module| module.name).collect()
    }

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let (_dir, tree) = tree(
            &[
                ("virtio_blk", "virtio,virtio_ring"),
                ("virtio-ring", "virtio"),
                ("virtio", ""),
                ("x", "virtio-ring"),
            ],
            "",
        );
        assert_eq!(names(tree.resolve(&["virtio-blk", "x"])), ["virtio", "virtio_ring", "virtio_blk", "x"]);
    }

    #[test]
    fn what_is_built_in_is_left_out() {
        let (_dir, tree) = tree(&[("a", "b,c"), ("c", "")], "kernel/lib/b.ko\n");
        assert_eq!(names(tree.resolve(&["a", "b"])), ["c", "a"]);
        assert!(tree.has("b") && tree.has("a") && !tree.has("d"));
    }

    #[test]
    fn each_fault_is_named() {
        let (dir, tree) = tree(&[("a", "b"), ("b", "a"), ("c", "gone"), ("d", "")], "");
        let error = |name| tree.resolve(&[name]).unwrap_err().to_string();
        assert!(error("a").starts_with("module a needs itself"), "{}", error("a"));
        assert!(error("c").starts_with("module gone: not in "), "{}", error("c"));
        fs::write(dir.as_path().join("kernel/d.ko"), "text").unwrap();
        assert!(error("d").contains("kernel/d.ko is not a kernel module"), "{}", error("d"));
        fs::rename(dir.as_path().join("kernel/d.ko"), dir.as_path().join("kernel/d.ko.xz")).unwrap();
        assert!(error("d").contains("is compressed"), "{}", error("d"));
        fs::remove_file(dir.as_path().join("kernel/d.ko.xz")).unwrap();
        assert!(error("d").contains("no such file"), "{}", error("d"));
        for root in ["/proc/self/nowhere", "/dev/null"] {
            assert!(matches!(Tree::open(Path::new(root)), Err(Error::NoList(_))), "{root}");
        }
    }

    #[test]
    fn depmod_tells_what_compressed_modules_need() {
        let dir = TempDir::new().unwrap();
        let list = "x.ko: kernel/c.ko.zst\na-b.ko.xz: c.ko.zst\nc.ko.zst:\n";
        fs::write(dir.as_path().join("modules.dep"), list).unwrap();
        for file in ["a-b.ko.xz", "c.ko.zst"] {
            fs::write(dir.as_path().join(file), "").unwrap();
        }
        assert_eq!(names(Tree::open(dir.as_path()).unwrap().resolve(&["a_b"])), ["c", "a_b"]);
    }

    #[test]
    fn modules_are_found_beside_the_kernel() {
        let dir = TempDir::new().unwrap();
        let root = dir.as_path().canonicalize().unwrap();
        let tree = root.join("lib/modules/6.1-x");
        fs::create_dir_all(&tree).unwrap();
        fs::create_dir(root.join("boot")).unwrap();
        for file in [tree.join("modules.order"), root.join("boot/vmlinuz-6.1-x"), root.join("kernel")] {
            fs::write(file, "").unwrap();
        }
        assert_eq!(beside(&root.join("boot/vmlinuz-6.1-x"), None), Some(tree.clone()));
        assert_eq!(beside(&root.join("kernel"), Some("6.1-x")), Some(tree.clone()));
        assert_eq!(beside(&root.join("kernel"), None), None);
    }
}
