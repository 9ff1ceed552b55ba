//! Any text on one line: bytes that could mean something to a shell's `printf %b`, or end a line, become `\0ooo`, which
//! POSIX has it undo. Texts of letters, digits and the like stay as they are, and are readable on the far side.

/// The text on one line of printable ASCII.
pub(super) fn line(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (byte == b' ' || byte.is_ascii_graphic()) && byte != b'\\' {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("\\0{byte:03o}"));
        }
    }
    escaped
}

/// The text that a line stands for; `None` if it is not one of ours.
pub(super) fn undo(escaped: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let digits = escape.strip_prefix('0')?.get(..3)?;
        bytes.push(u8::from_str_radix(digits, 8).ok()?);
        rest = &escape[4..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_comes_back_from_one_line_of_ascii() {
        for text in ["", "plain text", "a\nb\r\n", "\\0012", "it's \"$(x)\" `y` %s", "grün ☃", "\u{1}\u{7f}\t "] {
            let escaped = line(text);
            assert!(escaped.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{escaped}");
            assert_eq!(undo(&escaped).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_was_not_escaped_here_is_not_undone() {
        for not_ours in ["\\", "\\n", "\\01", "\\0999", "\\0777"] {
            assert_eq!(undo(not_ours), None, "{not_ours}");
        }
    }
}
