//! Names of accounts on this machine.

use std::fs;

/// Returns the name of a user ID from `/etc/passwd`, or the number if it has none there.
pub fn name_of(id: u32) -> String {
    let known = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = known.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?;
        (uid.parse() == Ok(id)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_named_and_an_unknown_id_is_a_number() {
        assert_eq!((name_of(0).as_str(), name_of(4_000_000_001).as_str()), ("root", "4000000001"));
    }
}
