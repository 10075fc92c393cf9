//! An input's own first bytes decide how the rest is used.

/// Takes the first byte; 0 of an input that has none.
pub(super) fn first(input: &[u8]) -> (u8, &[u8]) {
    input.split_first().map_or((0, input), |(first, rest)| (*first, rest))
}

/// Sizes of pieces, told by a byte: mostly small ones, which cut headers, sometimes everything at once.
pub(super) struct Cuts(u8);

impl Cuts {
    pub(super) fn of(seed: u8) -> Self {
        Self(seed)
    }

    /// The next piece of `rest`.
    pub(super) fn next<'a>(&mut self, rest: &mut &'a [u8]) -> &'a [u8] {
        self.0 = self.0.wrapping_mul(37).wrapping_add(101);
        let size = match self.0 >> 6 {
            0 => 1,
            1 => usize::from(self.0 & 7) + 1,
            2 => usize::from(self.0 & 63) + 1,
            _ => usize::from(self.0) * 9,
        };
        let (piece, after) = rest.split_at(size.min(rest.len()));
        *rest = after;
        piece
    }
}
