//! Relay buffers, borrowed while bytes flow: an idle session holds none.

use std::cell::RefCell;

/// A borrowed buffer; give it back with [`give_back`] once it is empty.
pub(super) type Buffer = Box<[u8]>;

/// A buffer of `bytes` bytes, from this thread's free ones if one fits. Its contents are of no meaning.
pub(super) fn borrow(bytes: usize) -> Buffer {
    let free = FREE.with_borrow_mut(Vec::pop);
    free.filter(|buffer| buffer.len() == bytes).unwrap_or_else(|| vec![0; bytes].into())
}

/// Keeps a buffer for the next borrower on this thread, or frees it when enough are kept.
pub(super) fn give_back(buffer: Buffer) {
    FREE.with_borrow_mut(|free| {
        if free.len() < FREE_MAX {
            free.push(buffer);
        }
    });
}

/// Per thread; sessions need at most two at a time, and only while a peer does not take what it gets.
const FREE_MAX: usize = 16;

thread_local! {
    // One list a thread, so that a borrow needs no lock.
    static FREE: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_given_back_is_borrowed_again() {
        let buffer = borrow(4096);
        let place = buffer.as_ptr();
        give_back(buffer);

        let again = borrow(4096);
        assert_eq!(again.as_ptr(), place);
        assert_eq!(borrow(8192).len(), 8192);
    }
}
