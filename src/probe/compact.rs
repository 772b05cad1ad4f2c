//! Gives back the numbers of what was unregistered, where it lies before what is still there: else those who
//! register and unregister for ever, while others stay, would make us grow.

use crate::probe::registry::Registry;

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
        let (new_request, new_instance) = (numbers(&self.requests), numbers(&self.instances));
        self.requests.retain(Option::is_some);
        self.instances.retain(Option::is_some);
        for request in self.requests.iter_mut().flatten() {
            request.instances = request
                .instances
                .iter()
                .filter_map(|old| new_instance.get(*old).copied().flatten())
                .collect();
        }
        for instance in self.instances.iter_mut().flatten() {
            instance.request = new_request.get(instance.request).copied().flatten().unwrap_or_default();
        }
        let request = |old: usize| new_request.get(old).copied().flatten();
        let instance = |old: usize| new_instance.get(old).copied().flatten();
        let by_struct = std::mem::take(&mut self.by_struct);
        self.by_struct = by_struct.into_iter().filter_map(|(up, old)| Some((up, request(old)?))).collect();
        let by_address = std::mem::take(&mut self.by_address);
        let moved = by_address.into_iter();
        self.by_address =
            moved.filter_map(|((of, at), old)| Some(((request(of)?, at), instance(old)?))).collect();
        let by_place = std::mem::take(&mut self.by_place);
        let moved = by_place.into_iter();
        self.by_place = moved
            .filter_map(|((of, file, at), old)| Some(((request(of)?, file, at), instance(old)?)))
            .collect();
    }
}

/// The new number of each, if it is still there.
fn numbers<T>(all: &[Option<T>]) -> Vec<Option<usize>> {
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
