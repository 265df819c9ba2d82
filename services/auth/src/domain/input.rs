//! What people type when they sign up, parsed into what auth keeps.

use hbc_types::problem::FieldError;
use hbc_types::wire::auth::Contact;

/// Characters of a contact field at most.
const MAX_FIELD: usize = 300;

/// A username: 3–64 characters of `a-z 0-9 . _ -`. Upper case is folded, so that nobody can pose as `Alice` beside `alice`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Username(String);

impl Username {
    /// Parses what was typed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.trim().to_ascii_lowercase();
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        ((3..=64).contains(&name.len()) && name.bytes().all(allowed)).then_some(Self(name))
    }

    /// The folded text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a text shows all that it has: no controls, and nothing that turns or hides what stands beside it (Unicode's Cc and Cf).
#[must_use]
pub fn shows_itself(text: &str) -> bool {
    let hides = |c: char| {
        matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    !text.chars().any(|c| c.is_control() || hides(c))
}

/// Collects what is wrong with an input, field by field.
#[derive(Default, Debug)]
pub struct Faults(Vec<FieldError>);

impl Faults {
    /// Adds a fault.
    pub fn add(&mut self, field: &str, message: &str) {
        self.0.push(FieldError { field: field.to_owned(), message: message.to_owned() });
    }

    /// A username, or a fault.
    pub fn username(&mut self, text: &str) -> Option<Username> {
        let name = Username::parse(text);
        if name.is_none() {
            self.add("username", "needs 3 to 64 characters of a-z, 0-9, dot, underscore and dash");
        }
        name
    }

    /// A text that must be there.
    pub fn required(&mut self, field: &str, text: &str) -> String {
        let text = text.trim();
        if text.is_empty() {
            self.add(field, "must not be empty");
        }
        self.bounded(field, text);
        text.to_owned()
    }

    /// A text that may be absent or empty.
    pub fn optional(&mut self, field: &str, text: Option<&str>) -> Option<String> {
        let text = text?.trim();
        self.bounded(field, text);
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// A time zone's name, by its form: one to three parts of letters, digits, `_`, `+` and `-` (IANA "Theory and pragmatics of
    /// the tz code and data"). Which there are is the browser's to know.
    pub fn time_zone(&mut self, field: &str, name: &str) {
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-');
        let mut parts = name.split('/');
        let formed = parts.all(|part| !part.is_empty() && part.bytes().all(inner));
        if !formed || name.len() > 64 || name.matches('/').count() > 2 {
            self.add(field, "is no name of a time zone, such as Asia/Colombo");
        }
    }

    /// Contact data.
    pub fn contact(&mut self, contact: &Contact, prefix: &str) -> Contact {
        let email = self.optional(&format!("{prefix}email"), contact.email.as_deref());
        if let Some(email) = &email {
            self.email(&format!("{prefix}email"), email);
        }
        let phone = self.optional(&format!("{prefix}phone"), contact.phone.as_deref());
        if let Some(phone) = &phone {
            self.phone(&format!("{prefix}phone"), phone);
        }
        Contact {
            name: self.optional(&format!("{prefix}name"), contact.name.as_deref()),
            email,
            phone,
            address: self.optional(&format!("{prefix}address"), contact.address.as_deref()),
        }
    }

    /// An e-mail address: one `@` with something on both sides and no space; the rest only a mail can tell.
    pub fn email(&mut self, field: &str, text: &str) {
        let good = text.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty()
                && !domain.is_empty()
                && !domain.contains('@')
                && !text.contains(char::is_whitespace)
        });
        if !good {
            self.add(field, "is not an e-mail address");
        }
    }

    /// A telephone number: digits and the usual signs, at least three digits.
    pub fn phone(&mut self, field: &str, text: &str) {
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        let signs = text
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b' ' | b'(' | b')' | b'/' | b'.'));
        if digits < 3 || !signs {
            self.add(field, "is not a telephone number");
        }
    }

    fn bounded(&mut self, field: &str, text: &str) {
        if text.chars().count() > MAX_FIELD {
            self.add(field, "has more than 300 characters");
        }
        if text.chars().any(char::is_control) {
            self.add(field, "holds control characters");
        }
    }

    /// `Ok` if nothing was wrong.
    pub fn into_result(self) -> Result<(), Vec<FieldError>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn usernames_are_folded_and_bounded() {
        assert_eq!(Username::parse(" Alice.B-1 ").unwrap().as_str(), "alice.b-1");
        for bad in ["al", "a b c", "älice", "", "x".repeat(65).as_str(), "a@b"] {
            assert_eq!(Username::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_fault_names_its_field() {
        let mut faults = Faults::default();
        faults.required("name", "  ");
        faults.email("email", "nobody");
        faults.phone("contact_number", "call me");
        faults.required("address", &"x".repeat(301));
        faults.optional("note", Some("a\u{7}b"));
        let fields: Vec<_> = faults.into_result().unwrap_err().into_iter().map(|fault| fault.field).collect();
        assert_eq!(fields, ["name", "email", "contact_number", "address", "note"]);
    }

    proptest! {
        #[test]
        fn a_parsed_username_parses_to_itself(text in ".{0,70}") {
            if let Some(name) = Username::parse(&text) {
                prop_assert_eq!(Username::parse(name.as_str()), Some(name.clone()));
            }
        }
    }
}
