//! Work that nobody without a priority may delay: what `cyclictest` does to itself.

use workloads::platform::Unavailable;

use crate::sys::affinity;

/// Runs `work` at so high a priority; 0: as everyone.
pub fn at<R>(priority: u64, work: impl FnOnce() -> R) -> Result<R, Unavailable> {
    let Some(priority) = u8::try_from(priority).ok().filter(|priority| *priority > 0) else {
        return Ok(work());
    };
    affinity::before_others(priority).map_err(|_| Unavailable("no-real-time-priority-for-this-user"))?;
    let done = work();
    // What it was before anyone may be.
    let _ = affinity::in_turn();
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_everyone_before_and_after() {
        assert_eq!(at(0, || 7), Ok(7));
        // A user without the right is told so.
        let done = at(1, || 7);
        assert!([Ok(7), Err(Unavailable("no-real-time-priority-for-this-user"))].contains(&done), "{done:?}");
    }
}
