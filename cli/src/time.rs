//! Unix seconds as people read them.

/// Seconds since 1970 as `2025-11-22 20:26:01 UTC`; outside the years 1 to 9999 as the bare number.
pub fn utc(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    // Civil date from days, counted from the first of March of year 0 in cycles of 400 years.
    let day = days.saturating_add(719_468);
    let (cycle, day_of_cycle) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let date = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = cycle * 400 + year_of_cycle + i64::from(month <= 2);
    if !(1..=9_999).contains(&year) {
        return seconds.to_string();
    }
    format!("{year:04}-{month:02}-{date:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// A length of time such as `1 h 30 min` or `45 s`.
pub fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let Some(first) = units.iter().position(|(size, _)| seconds >= *size) else { return "0 s".to_owned() };
    let (size, name) = units[first];
    let mut text = format!("{} {name}", seconds / size);
    if let Some((small, small_name)) = units.get(first + 1)
        && seconds % size >= *small
    {
        text += &format!(" {} {small_name}", seconds % size / small);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_dates() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_827_696), "2000-02-29 12:34:56 UTC");
        assert_eq!(utc(1_000_000_000), "2001-09-09 01:46:40 UTC");
        assert_eq!(utc(4_107_542_399), "2100-02-28 23:59:59 UTC");
        assert_eq!(utc(4_107_542_400), "2100-03-01 00:00:00 UTC");
        assert_eq!(utc(-1), "1969-12-31 23:59:59 UTC");
        assert_eq!(utc(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn spans() {
        assert_eq!(span(0), "0 s");
        assert_eq!(span(59), "59 s");
        assert_eq!(span(3_600), "1 h");
        assert_eq!(span(3_661), "1 h 1 min");
        assert_eq!(span(172_800), "2 d");
    }

    proptest! {
        #[test]
        fn order_is_kept(a in 0i64..200_000_000_000, b in 0i64..200_000_000_000) {
            prop_assert_eq!(a.cmp(&b), utc(a).cmp(&utc(b)));
        }

        #[test]
        fn no_time_panics(seconds in any::<i64>(), length in any::<u64>()) {
            utc(seconds);
            span(length);
        }
    }
}
