//! Where the code of runtimes is that walk their own stacks, for [`crate::hit::walked`].

use std::rc::Rc;

use crate::hit::walked;
use crate::probe::registry::Registry;

impl Registry {
    /// From now on calls are followed.
    pub(super) fn begin_following(&mut self) {
        if !self.follows {
            self.follows = true;
            self.publish_walked();
        }
    }

    /// Makes that code known to hits, as the objects were listed last; where no call is followed, nobody asks.
    pub(super) fn publish_walked(&mut self) {
        if !self.follows {
            return;
        }
        let mut ranges = Vec::new();
        let mut generates = false;
        for module in self.modules.clone().iter().filter(|module| !module.is_own) {
            let is_new = !self.files.contains_key(&module.id);
            let Ok(file) = self.file(module) else { continue };
            let found = file.walked();
            ranges.extend(
                found.ranges.iter().map(|(low, high)| (low.at(module.bias).0, high.at(module.bias).0)),
            );
            generates |= found.generates;
            drop(file);
            // Most are read for this only: the pages with their symbols are not needed any more.
            let file = self.files.get_mut(&module.id).and_then(|file| file.as_mut().ok());
            if let Some(file) = file.filter(|_| is_new).and_then(Rc::get_mut) {
                file.release();
            }
        }
        walked::publish(&at_most(ranges, walked::RANGES), generates);
    }
}

/// So many ranges that all are inside: the last one takes in those there is no room for, with what lies between.
fn at_most(mut ranges: Vec<(u64, u64)>, most: usize) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    if let (true, Some((_, end))) = (ranges.len() > most, ranges.last().copied()) {
        ranges.truncate(most);
        if let Some(last) = ranges.last_mut() {
            last.1 = end;
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::at_most;

    #[test]
    fn the_last_range_takes_in_what_has_no_room() {
        let ranges = vec![(50, 60), (10, 20), (30, 40)];
        assert_eq!(at_most(ranges.clone(), 3), [(10, 20), (30, 40), (50, 60)]);
        assert_eq!(at_most(ranges, 2), [(10, 20), (30, 60)]);
    }
}
