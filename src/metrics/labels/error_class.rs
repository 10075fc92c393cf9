//! SQLSTATE classes, as a closed set of label values.

use super::{Label, labels};

labels! {
    /// SQLSTATE classes of PostgreSQL and CockroachDB.
    ErrorClass {
        /// Successful completion.
        C00 = "00",
        /// Warning.
        C01 = "01",
        /// No data.
        C02 = "02",
        /// Statement not yet complete.
        C03 = "03",
        /// Connection exception.
        C08 = "08",
        /// Triggered action exception.
        C09 = "09",
        /// Feature not supported.
        C0A = "0A",
        /// Invalid transaction initiation.
        C0B = "0B",
        /// Locator exception.
        C0F = "0F",
        /// Invalid grantor.
        C0L = "0L",
        /// Invalid role specification.
        C0P = "0P",
        /// Diagnostics exception.
        C0Z = "0Z",
        /// XQuery error.
        C10 = "10",
        /// Case not found.
        C20 = "20",
        /// Cardinality violation.
        C21 = "21",
        /// Data exception.
        C22 = "22",
        /// Integrity constraint violation.
        C23 = "23",
        /// Invalid cursor state.
        C24 = "24",
        /// Invalid transaction state.
        C25 = "25",
        /// Invalid SQL statement name.
        C26 = "26",
        /// Triggered data change violation.
        C27 = "27",
        /// Invalid authorization.
        C28 = "28",
        /// Dependent privilege descriptors still exist.
        C2B = "2B",
        /// Invalid transaction termination.
        C2D = "2D",
        /// SQL routine exception.
        C2F = "2F",
        /// Invalid cursor name.
        C34 = "34",
        /// External routine exception.
        C38 = "38",
        /// External routine invocation exception.
        C39 = "39",
        /// Savepoint exception.
        C3B = "3B",
        /// Invalid catalog name.
        C3D = "3D",
        /// Invalid schema name.
        C3F = "3F",
        /// Transaction rollback.
        C40 = "40",
        /// Syntax error or access rule violation.
        C42 = "42",
        /// WITH CHECK OPTION violation.
        C44 = "44",
        /// Insufficient resources.
        C53 = "53",
        /// Program limit exceeded.
        C54 = "54",
        /// Object not in prerequisite state.
        C55 = "55",
        /// Operator intervention.
        C57 = "57",
        /// System error.
        C58 = "58",
        /// Snapshot failure.
        C72 = "72",
        /// Configuration file error.
        F0 = "F0",
        /// Foreign data wrapper error.
        Hv = "HV",
        /// PL/pgSQL error.
        P0 = "P0",
        /// CockroachDB: features and limits of its own.
        Xc = "XC",
        /// Internal error.
        Xx = "XX",
        /// None of these.
        Other = "other",
    }
}

impl ErrorClass {
    /// The class of a SQLSTATE.
    pub fn of(sqlstate: crate::wire::SqlState) -> Self {
        Self::ALL.iter().copied().find(|class| class.text() == sqlstate.class()).unwrap_or(Self::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SqlState;

    #[test]
    fn places_and_values_agree() {
        for (place, class) in ErrorClass::ALL.iter().enumerate() {
            assert_eq!(class.place(), place);
        }
        assert_eq!(ErrorClass::of(SqlState::CONNECT_FAILED), ErrorClass::C08);
        assert_eq!(ErrorClass::of(SqlState::parse(b"XXUUU").unwrap()), ErrorClass::Xx);
        assert_eq!(ErrorClass::of(SqlState::parse(b"QQ000").unwrap()), ErrorClass::Other);
    }
}
