//! The worker accepts exactly what the gateway signed for this request, and no other byte sequence.

use sallyport_core::{
    names::role::Role,
    statement::{Delivery, Statement, StatementKey, UserLimits},
};

use super::parts;

const NOW: i64 = 1_800_000_000;

/// Input: a target, then a value in which `~` is replaced by the valid statement.
pub fn run(data: &[u8]) {
    let (target, value) = parts::text(data);
    let key = StatementKey::new(b"0123456789abcdef0123456789abcdef");
    let statement = Statement {
        user: Some("ana".parse().unwrap()),
        generation: None,
        role: Role::Admin,
        limits: UserLimits::default(),
        to: "127.0.0.1:8001".to_owned(),
        request_id: "r1".to_owned(),
        method: "GET".to_owned(),
        target: target.to_owned(),
        at: NOW,
        link: None,
        link_id: None,
    };
    let right = key.sign(&statement);
    let delivery = Delivery { to: Some("127.0.0.1:8001"), method: "GET", target };
    assert_eq!(key.verify(&right, delivery, NOW), Ok(statement));
    assert!(key.verify(&right, Delivery { target: &format!("{target}x"), ..delivery }, NOW).is_err());
    assert!(key.verify(&right, Delivery { method: "POST", ..delivery }, NOW).is_err());
    assert!(key.verify(&right, Delivery { to: Some("127.0.0.1:8002"), ..delivery }, NOW).is_err());
    let Ok(value) = std::str::from_utf8(value) else { return };
    let presented = value.replacen('~', &right, 1);
    assert_eq!(key.verify(&presented, delivery, NOW).is_ok(), presented == right, "{presented}");
    if let [at, with, ..] = *value.as_bytes() {
        let mut bytes = right.clone().into_bytes();
        let at = usize::from(at) * 3 % bytes.len();
        bytes[at] = with & 0x7f;
        let presented = String::from_utf8(bytes).unwrap();
        assert_eq!(key.verify(&presented, delivery, NOW).is_ok(), presented == right, "{presented}");
    }
}
