//! A queue that holds little more memory than its elements need, also after it was much longer: most topics have a few
//! events, and a burst leaves nothing behind.

use std::collections::VecDeque;
use std::ops::Deref;

/// Reads as the `VecDeque` that it is.
#[derive(Debug)]
pub(super) struct TightQueue<T>(VecDeque<T>);

impl<T> TightQueue<T> {
    /// Memory of an element, in bytes: at most a fifth of a queue that grows is empty.
    pub(super) const ELEMENT_BYTES: usize = size_of::<T>() + size_of::<T>() / 4;

    pub(super) fn push_back(&mut self, element: T) {
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact((self.0.len() / 4).max(1));
        }
        self.0.push_back(element);
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        let element = self.0.pop_front();
        if self.0.is_empty() || self.0.len() < self.0.capacity() / 2 {
            self.0.shrink_to(self.0.len() + self.0.len() / 4);
        }
        element
    }

    pub(super) fn back_mut(&mut self) -> Option<&mut T> {
        self.0.back_mut()
    }
}

impl<T> Default for TightQueue<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Deref for TightQueue<T> {
    type Target = VecDeque<T>;

    fn deref(&self) -> &VecDeque<T> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_burst_took_is_given_back() {
        let mut queue = TightQueue::default();
        for (length, rounds) in [(1, 1), (10_000, 1), (3, 100), (0, 1), (70, 1)] {
            for _ in 0..rounds {
                while queue.len() < length {
                    queue.push_back(queue.len() as u64);
                    assert!(queue.capacity() <= 2 * queue.len() + 1, "{}", queue.capacity());
                }
                while queue.len() > length {
                    queue.pop_front();
                    assert!(
                        queue.capacity() <= 2 * queue.len() + 1,
                        "{} for {}",
                        queue.capacity(),
                        queue.len()
                    );
                }
                queue.pop_front();
            }
        }
        while queue.pop_front().is_some() {}
        assert_eq!(queue.capacity(), 0);
    }

    #[test]
    fn a_queue_that_is_filled_and_drained_moves_little() {
        let mut queue = TightQueue::default();
        (0..1000_u64).for_each(|number| queue.push_back(number));
        let capacity = queue.capacity();
        assert!(capacity <= 1250, "{capacity}");
        for number in 0..100_000 {
            queue.push_back(number);
            queue.pop_front();
        }
        assert!(queue.capacity() <= capacity * 5 / 4);
        assert!(queue.iter().copied().eq(99_000..100_000));
    }
}
