//! The words of a kernel command line.

use crate::arguments::is_unknown;

/// The longest command line read; the kernel's own bound is 4 KiB on most machines, 64 KiB on none.
pub const COMMAND_LINE_BYTES_MAX: usize = 64 << 10;

/// One argument: `name` or `name=value`, quotes removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Before the first `=`.
    pub name: String,
    /// After it.
    pub value: Option<String>,
}

/// Splits a command line as the kernel does: at white space outside of double quotes; quotes around a value or
/// around the whole argument are removed. What follows a lone `--` is for PID 1 and not of interest.
pub fn split(line: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let mut quoted = false;
        let end = rest.find(|c: char| {
            quoted ^= c == '"';
            c.is_ascii_whitespace() && !quoted
        });
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        if word == "--" {
            break;
        }
        words.push(word_of(word));
        rest = after.trim_start();
    }
    words
}

fn word_of(text: &str) -> Word {
    let whole = text.strip_prefix('"');
    let text = whole.map_or(text, |text| text.strip_suffix('"').unwrap_or(text));
    let Some((name, value)) = text.split_once('=') else {
        return Word { name: text.to_owned(), value: None };
    };
    let value = value.strip_prefix('"').map_or(value, |value| value.strip_suffix('"').unwrap_or(value));
    Word { name: name.to_owned(), value: Some(value.to_owned()) }
}

/// The command line with the values of secret arguments replaced, for logs. What an argument of ours that does not
/// exist was meant to be nobody knows: `rerack.cod=` holds a code, too.
pub fn redacted(line: &str) -> String {
    let words = split(line).into_iter().map(|word| match word.value {
        Some(value) if is_secret(&word.name) || is_unknown(&word.name) || is_like_code(&value) => {
            format!("{}=[secret]", word.name)
        }
        Some(value) => format!("{}={value}", word.name),
        None => word.name,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Whether an argument's value must not be shown. A misspelt code is still a code.
pub fn is_secret(name: &str) -> bool {
    name.to_ascii_lowercase().contains("code")
}

/// Characters of a restore code, without its dashes.
const CODE_CHARS: usize = 20;

/// Whether a value has the form of a restore code, whatever the argument is called and whatever stands before it.
pub fn is_like_code(value: &str) -> bool {
    let values = value.rsplit(['/', ',', '=']);
    values.into_iter().any(|value| {
        let value = value.trim();
        let chars = value.bytes().filter(|byte| byte.is_ascii_alphanumeric()).count();
        let is_grouped = value.split(['-', ' ']).all(|group| group.len() == 4);
        chars == CODE_CHARS && (is_grouped || value.len() == CODE_CHARS)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(line: &str) -> Vec<(String, Option<String>)> {
        split(line).into_iter().map(|word| (word.name, word.value)).collect()
    }

    #[test]
    fn quotes_hold_spaces_together() {
        let words = pairs("quiet  a=\"b c\"\t\"d=e f\" g==h \n -- init-argument");
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            words,
            [("quiet".into(), None), ("a".into(), text("b c")), ("d".into(), text("e f")), ("g".into(), text("=h"))]
        );
    }

    #[test]
    fn a_code_is_never_shown_even_if_misspelt() {
        let shown = redacted("quiet rerack.code=ABCD-EFGH rerack.Codes=\"X Y\" rerack.node=web");
        assert_eq!(shown, "quiet rerack.code=[secret] rerack.Codes=[secret] rerack.node=web");
        let code = "abcd-efgh-jkmn-pqrs-tvwx";
        let shown = redacted(&format!(
            "rerack.cod=abcd rerack.server=https://{code} root={code} rerack.node=ABCDEFGHJKMNPQRSTVWX"
        ));
        assert_eq!(shown, "rerack.cod=[secret] rerack.server=[secret] root=[secret] rerack.node=[secret]");
        let harmless =
            "rerack.server=https://bundles:8443 root=UUID=8bcb5daf-17ca-47b2-91ac-39b50fb58eef console=ttyS0,115200";
        assert_eq!(redacted(harmless), harmless);
    }

    proptest! {
        #[test]
        fn any_line_is_borne(line in "[ -~\t\n]{0,200}") {
            for word in split(&line) {
                prop_assert!(!word.name.contains('='));
            }
        }
    }
}
