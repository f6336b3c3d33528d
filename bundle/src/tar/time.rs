//! Times as PAX writes them: decimal seconds with a fraction.

use node_model::Timestamp;

const NANOS_PER_SEC: i128 = 1_000_000_000;

/// Seconds with as much of a fraction as there is: `-0.5` is half a second before 1970.
pub(super) fn format(time: Timestamp) -> String {
    let nanos = i128::from(time.secs) * NANOS_PER_SEC + i128::from(time.nanos);
    let sign = if nanos < 0 { "-" } else { "" };
    let (secs, fraction) = (nanos.abs() / NANOS_PER_SEC, nanos.abs() % NANOS_PER_SEC);
    let text = format!("{sign}{secs}.{fraction:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The time that such a text says.
pub(super) fn parse(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let (secs, fraction) = match text.iter().position(|&b| b == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &[][..]),
    };
    let digits = |d: &[u8]| d.iter().all(u8::is_ascii_digit);
    if !(1..=19).contains(&secs.len()) || fraction.len() > 9 || !digits(secs) || !digits(fraction) {
        return None;
    }
    let number = |d: &[u8]| d.iter().fold(0, |n: i128, b| n * 10 + i128::from(b - b'0'));
    let nanos = number(secs) * NANOS_PER_SEC + number(fraction) * 10_i128.pow(9 - fraction.len() as u32);
    let nanos = if negative { -nanos } else { nanos };
    Some(Timestamp {
        secs: i64::try_from(nanos.div_euclid(NANOS_PER_SEC)).ok()?,
        nanos: nanos.rem_euclid(NANOS_PER_SEC) as u32,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_read_as_other_tars_write_them() {
        for (secs, nanos, text) in [
            (0, 0, "0"),
            (1, 500_000_000, "1.5"),
            (-1, 500_000_000, "-0.5"),
            (-2, 999_999_999, "-1.000000001"),
            (-86_400, 0, "-86400"),
            (100, 0, "100"),
            (i64::MAX, 999_999_999, "9223372036854775807.999999999"),
            (i64::MIN, 0, "-9223372036854775808"),
        ] {
            let time = Timestamp { secs, nanos };
            assert_eq!(format(time), text);
            assert_eq!(parse(text.as_bytes()), Some(time));
        }
        for wrong in ["", "-", ".5", "1e3", "+1", "1.0000000001", "99999999999999999999", "9223372036854775808", "1 "] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_time_survives(secs in any::<i64>(), nanos in 0u32..1_000_000_000) {
            let time = Timestamp { secs, nanos };
            prop_assert_eq!(parse(format(time).as_bytes()), Some(time));
        }
    }
}
