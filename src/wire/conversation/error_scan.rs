//! Severity and code of an ErrorResponse whose body may come in pieces.

use crate::wire::SqlState;

/// Remembers the two fields that matter, and nothing else of the body.
#[derive(Debug, Default)]
pub(super) struct ErrorScan {
    /// Type of the field that is being read; 0 between fields.
    field: u8,
    code: [u8; 5],
    code_filled: usize,
    /// First letter of the severity, localised (`S`) until the one that never is (`V`) comes.
    severity: u8,
    at_first_letter: bool,
}

impl ErrorScan {
    pub(super) fn scan(&mut self, piece: &[u8]) {
        for &byte in piece {
            match (self.field, byte) {
                (0, kind) => {
                    self.field = kind;
                    self.at_first_letter = true;
                }
                (_, 0) => self.field = 0,
                (b'S' | b'V', letter) if self.at_first_letter => {
                    self.severity = letter;
                    self.at_first_letter = false;
                }
                (b'C', letter) => {
                    if let Some(place) = self.code.get_mut(self.code_filled) {
                        *place = letter;
                        self.code_filled = self.code_filled.saturating_add(1);
                    }
                }
                _ => {}
            }
        }
    }

    /// FATAL and PANIC end the session.
    pub(super) fn is_fatal(&self) -> bool {
        matches!(self.severity, b'F' | b'P')
    }

    pub(super) fn sqlstate(&self) -> SqlState {
        SqlState::parse(&self.code).unwrap_or(SqlState::INTERNAL)
    }
}
