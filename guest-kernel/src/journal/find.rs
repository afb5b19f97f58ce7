//! From what each slot holds to the last record that can be believed.

/// What is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// All records up to this one are there, but those that newer ones have replaced; 0: none.
    pub whole: u64,
    /// The highest number of a whole record: behind a gap, it was under way when the machine ended.
    pub highest: u64,
}

/// Judges `slots`, the number of the whole record in each, 0 where there is none, written in groups of
/// `group`.
pub fn find(slots: &[u64], group: u64) -> Found {
    let many = slots.len() as u64;
    let there = |number: u64| slots.get((number % many) as usize) == Some(&number);
    let highest = slots.iter().copied().filter(|number| there(*number)).max().unwrap_or(0);
    // What was under way, this group or the next, may have replaced, or spoilt, what is a round older.
    let oldest = (highest + group + 1).saturating_sub(many).max(1);
    let missing = (oldest..=highest).find(|number| !there(*number));
    Found { whole: missing.map_or(highest, |missing| missing - 1), highest }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;
    use std::vec::Vec;

    const GROUP: u64 = 3;

    /// Sixteen slots after so many records.
    fn disk(last: u64) -> Vec<u64> {
        let mut slots = vec![0; 16];
        (1..=last).for_each(|number| slots[(number % 16) as usize] = number);
        slots
    }

    #[test]
    fn what_is_there_is_found() {
        for last in [0, 1, 2, 15, 16, 17, 100] {
            assert_eq!(find(&disk(last), GROUP), Found { whole: last, highest: last });
        }
    }

    #[test]
    fn of_a_group_under_way_any_part_may_be_there_or_spoilt() {
        for last in [0, 3, 15, 30, 99] {
            for mask in 0..27 {
                let mut slots = disk(last);
                let state = |at: u32| mask / 3_u32.pow(at) % 3;
                for at in 0..3 {
                    let number = last + 1 + u64::from(at);
                    match state(at) {
                        0 => {}
                        1 => slots[(number % 16) as usize] = number,
                        _ => slots[(number % 16) as usize] = 0,
                    }
                }
                let done = (0..3).take_while(|at| state(*at) == 1).count() as u64;
                assert_eq!(find(&slots, GROUP).whole, last + done, "{last} {mask}");
            }
        }
    }

    #[test]
    fn what_was_lost_is_not_believed() {
        // A record of an earlier group is spoilt, or is still the one of a round before.
        for lost in [0, 100 - 16 - 5] {
            let mut slots = disk(100);
            slots[95 % 16] = lost;
            assert_eq!(find(&slots, GROUP), Found { whole: 94, highest: 100 });
        }
        // One that lies where it does not belong.
        let mut slots = disk(20);
        slots[3] = 21;
        assert_eq!(find(&slots, GROUP).highest, 20);
        assert_eq!(find(&[], GROUP), Found { whole: 0, highest: 0 });
    }
}
