//! Gives back the numbers of what was unregistered, where it lies before what is still there: else those who
//! register and unregister for ever, while others stay, would make us grow.

use crate::probe::registry::{Registry, note_number};

/// Fewer numbers than this are not worth it.
const LEAST: usize = 1024;

impl Registry {
    /// Renumbers requests and instances, in their order, where more than half of them are gone. Whoever
    /// has the number of one must not use it afterwards.
    pub fn compact(&mut self) {
        let instances = self.instances.len();
        if self.requests.len().max(instances) < self.compact_at {
            return;
        }
        let live = self.requests.iter().flatten().count().max(self.instances.iter().flatten().count());
        self.compact_at = (live * 2).max(LEAST);
        if self.requests.len().max(instances) < self.compact_at {
            return;
        }
        let new_instance = numbers(&self.instances);
        let new_request = numbers(&self.requests);
        self.reported =
            self.reported.iter().filter_map(|old| new_request[*old]).map(|new| new as usize).collect();
        self.requests.retain(Option::is_some);
        self.instances.retain(Option::is_some);
        let instance = |old: u32| new_instance.get(old as usize).copied().flatten();
        for (number, request) in self.requests.iter_mut().flatten().enumerate() {
            note_number(&request.maker, number);
            request.renumber(instance);
        }
    }
}

/// The new number of each, if it is still there.
fn numbers<T>(all: &[Option<T>]) -> Vec<Option<u32>> {
    let mut next = 0;
    let number = |there: &Option<T>| {
        there.as_ref().map(|_| {
            next += 1;
            next - 1
        })
    };
    all.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn numbers_keep_their_order() {
        let all = [Some('a'), None, Some('b'), None, None, Some('c')];
        assert_eq!(numbers(&all), [Some(0), None, Some(1), None, None, Some(2)]);
    }
}
