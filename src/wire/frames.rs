//! Follows the five-byte headers of typed messages through a stream that is cut anywhere.

/// What wants to know of the messages in a stream.
pub trait Watch {
    /// A message of this type begins; `length` bytes of body follow, maybe none.
    fn begin(&mut self, kind: u8, length: u32) -> Result<(), &'static str>;
    /// A piece of the body.
    fn body(&mut self, piece: &[u8]);
    /// The message is whole.
    fn end(&mut self);
}

/// Where a stream stands between and within messages.
#[derive(Debug, Default)]
pub struct Frames {
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    body_left: usize,
    /// A message that could not be began in an earlier piece, which may have been passed on.
    is_broken: bool,
}

/// A message whose length cannot be, or that its watcher refused.
#[derive(Debug, PartialEq, Eq)]
pub struct FrameError {
    /// How many bytes of the piece come before the message; `None` when it began in an earlier piece.
    pub sound_bytes: Option<usize>,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Frames {
    /// Whether the stream stands between two messages.
    pub fn at_boundary(&self) -> bool {
        self.body_left == 0 && self.header_filled == 0 && !self.is_broken
    }

    /// Follows `piece`, the next bytes of the stream, telling `watch` of what they hold.
    pub fn follow(&mut self, piece: &[u8], watch: &mut impl Watch) -> Result<(), FrameError> {
        let mut rest = piece;
        while !rest.is_empty() {
            if self.body_left > 0 {
                let (body, after) = rest.split_at(self.body_left.min(rest.len()));
                watch.body(body);
                self.body_left = self.body_left.saturating_sub(body.len());
                if self.body_left == 0 {
                    watch.end();
                }
                rest = after;
                continue;
            }
            let began_here = self.header_filled == 0;
            let before = piece.len().saturating_sub(rest.len());
            let Some(header) = self.take_header(&mut rest) else { break };
            if let Err(reason) = self.begin(header, watch) {
                self.is_broken = !began_here;
                return Err(FrameError { sound_bytes: began_here.then_some(before), reason });
            }
        }
        Ok(())
    }

    /// A whole header from the front of `rest` (and what is left of the last piece), or `None`.
    fn take_header(&mut self, rest: &mut &[u8]) -> Option<[u8; HEADER_BYTES]> {
        if self.header_filled == 0
            && let Some((header, after)) = rest.split_first_chunk()
        {
            *rest = after;
            return Some(*header);
        }
        let place = self.header.get_mut(self.header_filled..)?;
        let (part, after) = rest.split_at(place.len().min(rest.len()));
        place.get_mut(..part.len())?.copy_from_slice(part);
        *rest = after;
        self.header_filled = self.header_filled.saturating_add(part.len());
        (self.header_filled == HEADER_BYTES).then(|| {
            self.header_filled = 0;
            self.header
        })
    }

    fn begin(&mut self, [kind, length @ ..]: [u8; HEADER_BYTES], watch: &mut impl Watch) -> Result<(), &'static str> {
        // A signed number on the wire, that counts itself.
        let length = u32::from_be_bytes(length);
        if !(4..=i32::MAX.unsigned_abs()).contains(&length) {
            return Err("a message's length is less than 4 or more than 2 GiB");
        }
        let body = length.saturating_sub(4);
        watch.begin(kind, body)?;
        self.body_left = usize::try_from(body).unwrap_or(usize::MAX);
        if body == 0 {
            watch.end();
        }
        Ok(())
    }
}

const HEADER_BYTES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, PartialEq, Debug)]
    struct Seen(Vec<(u8, u32, Vec<u8>, bool)>);

    impl Watch for Seen {
        fn begin(&mut self, kind: u8, length: u32) -> Result<(), &'static str> {
            self.0.push((kind, length, Vec::new(), false));
            if kind == b'!' { Err("refused") } else { Ok(()) }
        }
        fn body(&mut self, piece: &[u8]) {
            self.0.last_mut().unwrap().2.extend(piece);
        }
        fn end(&mut self) {
            self.0.last_mut().unwrap().3 = true;
        }
    }

    const STREAM: &[u8] = b"D\0\0\0\x07abcZ\0\0\0\x05IS\0\0\0\x04C\0\0\0\x06xy";

    #[test]
    fn messages_are_the_same_however_the_stream_is_cut() {
        let mut whole = Seen::default();
        Frames::default().follow(STREAM, &mut whole).unwrap();

        for size in 1..STREAM.len() {
            let (mut frames, mut seen) = (Frames::default(), Seen::default());
            for piece in STREAM.chunks(size) {
                frames.follow(piece, &mut seen).unwrap();
            }
            assert_eq!(seen, whole, "in pieces of {size}");
            assert!(frames.at_boundary());
        }
        assert_eq!(whole.0.len(), 4);
        assert!(whole.0.iter().all(|message| message.3));
    }

    #[test]
    fn following_a_stream_allocates_nothing_however_it_is_cut() {
        struct Nothing;
        impl Watch for Nothing {
            fn begin(&mut self, _: u8, _: u32) -> Result<(), &'static str> {
                Ok(())
            }
            fn body(&mut self, _: &[u8]) {}
            fn end(&mut self) {}
        }

        for size in 1..=STREAM.len() {
            let mut frames = Frames::default();
            let counted = allocation_counter::measure(|| {
                STREAM.chunks(size).for_each(|piece| frames.follow(piece, &mut Nothing).unwrap());
            });
            assert_eq!(counted.count_total, 0, "in pieces of {size}");
        }
    }

    #[test]
    fn a_boundary_is_only_between_messages() {
        let (mut frames, mut seen) = (Frames::default(), Seen::default());

        for (i, byte) in STREAM[..8].iter().enumerate() {
            frames.follow(&[*byte], &mut seen).unwrap();
            assert_eq!(frames.at_boundary(), i == 7, "after byte {i}");
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused_with_what_came_before_them() {
        for length in [0_u32, 3, 0x8000_0000, u32::MAX] {
            let bad = [b"Z\0\0\0\x05IE".as_slice(), &length.to_be_bytes()].concat();

            let error = Frames::default().follow(&bad, &mut Seen::default()).unwrap_err();
            assert_eq!(error.sound_bytes, Some(6));

            let mut frames = Frames::default();
            frames.follow(&bad[..8], &mut Seen::default()).unwrap();
            assert_eq!(frames.follow(&bad[8..], &mut Seen::default()).unwrap_err().sound_bytes, None);
            assert!(!frames.at_boundary(), "part of its header is out already");
        }
    }
}
