//! Days and microseconds into the text of dates, UTC. Pure.

/// `2026-01-31 12:00:00.123456+00` for microseconds since 1970.
pub(super) fn timestamp(micros: i64) -> String {
    let (days, rest) = (micros.div_euclid(DAY_MICROS), micros.rem_euclid(DAY_MICROS));
    let (second, micros) = (rest / 1_000_000, rest % 1_000_000);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{} {hour:02}:{minute:02}:{second:02}.{micros:06}+00", date(days))
}

/// `2026-01-31` for days since 1970, by counting in years that begin in March, so that the leap day
/// is the last.
pub(super) fn date(days: i64) -> String {
    let shifted = days.saturating_add(719_468);
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{:02}", day - (153 * from_march + 2) / 5 + 1)
}

/// PostgreSQL counts from 2000.
pub(super) const POSTGRES_EPOCH_DAYS: i64 = 10_957;
/// Microseconds in a day.
pub(super) const DAY_MICROS: i64 = 86_400_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates_before_and_after_1970() {
        assert_eq!(timestamp(0), "1970-01-01 00:00:00.000000+00");
        assert_eq!(timestamp(-1), "1969-12-31 23:59:59.999999+00");
        assert_eq!(timestamp(951_782_400_000_001), "2000-02-29 00:00:00.000001+00");
        assert_eq!(date(POSTGRES_EPOCH_DAYS), "2000-01-01");
        timestamp(i64::MIN);
        timestamp(i64::MAX);
        date(i64::MAX);
    }
}
