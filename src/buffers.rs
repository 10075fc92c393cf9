//! Buffers for bytes that pass through, borrowed while they flow: an idle session holds none.

use std::cell::RefCell;

/// A borrowed buffer; give it back with [`give_back`] once it is empty.
pub(crate) type Buffer = Box<[u8]>;

/// A buffer of `bytes` bytes, from this thread's free ones if one fits. Its contents are of no meaning.
pub(crate) fn borrow(bytes: usize) -> Buffer {
    let free = FREE.with_borrow_mut(|free| {
        let place = free.iter().rposition(|buffer| buffer.len() == bytes)?;
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

    #[test]
    fn a_buffer_given_back_is_borrowed_again_by_who_needs_one_of_its_size() {
        let (buffer, larger) = (borrow(4096), borrow(8192));
        let place = buffer.as_ptr();
        give_back(buffer);
        give_back(larger);

        assert_eq!(borrow(16_384).len(), 16_384);
        let (again, larger) = (borrow(4096), borrow(8192));
        assert_eq!((again.as_ptr(), larger.len()), (place, 8192));
    }
}
