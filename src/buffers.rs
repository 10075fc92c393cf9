//! Buffers for bytes that pass through, borrowed while they flow: an idle session holds none.

use std::cell::RefCell;

/// A borrowed buffer; give it back with [`give_back`] once it is empty.
pub(crate) type Buffer = Box<[u8]>;

/// A buffer of `bytes` bytes, from this thread's free ones if one fits. Its contents are of no meaning.
pub(crate) fn borrow(bytes: usize) -> Buffer {
    let free = FREE.with_borrow_mut(|free| {
        let Some(place) = free.iter().rposition(|buffer| buffer.len() == bytes) else {
            // Those of a size from before a reload would keep their places for ever.
            free.pop();
            return None;
        };
        Some(free.swap_remove(place))
    });
    free.unwrap_or_else(|| vec![0; bytes].into())
}

/// Keeps a buffer for the next borrower on this thread, or frees it when enough are kept.
pub(crate) fn give_back(buffer: Buffer) {
    FREE.with_borrow_mut(|free| {
        if free.len() < FREE_MAX {
            free.push(buffer);
        }
    });
}

/// Per thread; a session needs four at most, and more than one at a time only in bulk or while a peer does not take what
/// it gets.
const FREE_MAX: usize = 16;

thread_local! {
    // One list a thread, so that a borrow needs no lock.
    static FREE: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A buffer that knows itself again: a fresh one has nothing but zeros, wherever it lies.
    fn marked(bytes: usize) -> Buffer {
        let mut buffer = borrow(bytes);
        buffer.fill(7);
        buffer
    }

    fn is_marked(buffer: &Buffer) -> bool {
        buffer.iter().all(|byte| *byte == 7)
    }

    #[test]
    fn a_buffer_given_back_is_borrowed_again_by_who_needs_one_of_its_size() {
        let (buffer, larger) = (marked(4096), marked(8192));
        give_back(buffer);
        give_back(larger);

        let (again, larger) = (borrow(4096), borrow(8192));
        assert_eq!((again.len(), larger.len()), (4096, 8192));
        assert!(is_marked(&again) && is_marked(&larger));
        assert!(!is_marked(&borrow(4096)));
    }

    #[test]
    fn buffers_of_a_size_that_nobody_asks_for_any_more_make_room() {
        let former = (0..FREE_MAX).map(|_| borrow(4096)).collect::<Vec<_>>();
        former.into_iter().for_each(give_back);
        give_back(marked(8192));

        assert!(is_marked(&borrow(8192)));
    }
}
