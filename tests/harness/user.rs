//! An ordinary user: may use /dev/kvm, by a group, and nothing else that is root's.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::host::skip;
use super::machine::{binary, scratch};

/// Somebody who is not root, and the group that may use /dev/kvm.
pub const UID: u32 = 65_534;
const GROUP: u32 = 65_533;

/// A place where he may run the binary; gone with this.
pub struct User {
    folder: PathBuf,
}

impl User {
    /// `None`, after saying so, where this is not root, who alone can become somebody else.
    pub fn new() -> Option<User> {
        let mut tried = Command::new("unshare");
        tried.args(["--mount", "setpriv", "--reuid=65534", "--clear-groups", "true"]);
        if !tried.output().is_ok_and(|output| output.status.success()) {
            skip("only root can be somebody else, and have mounts of its own");
            return None;
        }
        let user = User { folder: scratch("user") };
        fs::create_dir(&user.folder).expect("make a folder");
        fs::copy(binary(), user.folder.join("vmm")).expect("copy vmm");
        Some(user)
    }

    /// A file of his own.
    pub fn file(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.folder.join(name);
        fs::File::create(&path).and_then(|file| file.set_len(bytes)).expect("make a file");
        give(&path);
        path
    }

    /// What starts a machine as this user, once root has done `first` (a line of shell) in the process that
    /// will be the machine's.
    pub fn starts(&self, first: &str) -> [String; 5] {
        let here = self.folder.display();
        let script = format!(
            "mkdir -p {here}/dev; mount -t tmpfs none {here}/dev
            mknod -m 660 {here}/dev/kvm c 10 232; chown 0:{GROUP} {here}/dev/kvm
            mount --bind {here}/dev/kvm /dev/kvm
            {first}
            exec setpriv --reuid={UID} --regid={UID} --groups={GROUP} {here}/vmm \"$@\""
        );
        ["unshare", "--mount", "sh", "-ec", &script].map(str::to_owned)
    }
}

/// Makes this his.
pub fn give(path: &Path) {
    chown(path, Some(UID), Some(UID)).expect("give it away");
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
