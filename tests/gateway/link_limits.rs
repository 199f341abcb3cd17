//! How often a link can be used, and how many links there can be.

use serde_json::json;

use crate::{
    canary::Canary,
    client::Request,
    grants::{command_link, get, instance_with, path_of, post_link},
};

#[test]
fn a_link_uses_its_own_rate_and_that_of_the_address_but_not_its_owners() {
    let canary = Canary::start();
    let i = instance_with(canary.address, |i| {
        let rates = "scopes = []\nrates = [{ limit = \"3/hour\", by = \"user\" }]\ncredentials = [\"api-key\"";
        i.replace_in("policies/mine.toml", "scopes = []\ncredentials = [\"api-key\"", rates);
        i.replace("trusted_proxies = []", "trusted_proxies = [\"127.0.0.0/8\"]");
    });
    let [one, other] = [(); 2].map(|()| command_link(&i, &["/x"]));
    let from =
        |client: &str, target: &str| i.send(&Request::new("HEAD", target).header("X-Forwarded-For", client)).status;
    let statuses = |client: &str, target: &str| [(); 4].map(|()| from(client, target));
    assert_eq!(statuses("192.0.2.1", &one), [200, 200, 200, 429]);
    assert_eq!(from("192.0.2.2", &one), 429, "the link's rate is used up, from whichever address");
    assert_eq!(from("192.0.2.1", &other), 429, "the address's rate is used up, with whichever link");
    assert_eq!(from("192.0.2.3", &other), 200);
    let by_key = || i.send(&Request::new("GET", "/x").key(i.key())).status;
    assert_eq!([by_key(), by_key(), by_key(), by_key()], [200, 200, 200, 429], "the owner's rate is untouched");
}

#[test]
fn the_number_of_links_is_limited_per_user_and_in_total() {
    let canary = Canary::start();
    let i = instance_with(canary.address, |i| {
        i.replace("max_per_user = 1000", "max_per_user = 2");
        i.replace("max_in_all = 20000", "max_in_all = 4");
        for user in ["ana", "ben", "eva"] {
            i.command(&["user", "add", user]);
        }
    });
    let key = |user: &str| i.new_key(&["--user", user]);
    let ana = key("ana");
    let ben = key("ben");
    let eva = key("eva");
    let make = |key: &str| post_link(&i, &[("X-API-Key", key)], &json!({"path": "/x"}));
    let first = make(&ana).json();
    assert_eq!(make(&ana).status, 201);
    let refused = make(&ana);
    assert_eq!((refused.status, refused.code()), (429, "too_many_links".to_owned()));
    assert!(refused.header("retry-after").is_some());
    i.command(&["link", "revoke", first["id"].as_str().unwrap()]);
    assert_eq!([make(&ana).status, make(&ana).status], [201, 429], "a revoked link makes room");
    assert_eq!(get(&i, &path_of(&first)), (410, "expired_link".into()));
    let command = i.output(&["link", "create", "/x", "--user", "ana"]);
    assert!(
        !command.status.success() && String::from_utf8_lossy(&command.stderr).contains("the limit on links is reached"),
        "{command:?}"
    );

    assert_eq!([make(&ben).status, make(&ben).status], [201, 429], "one more link fits, and ben has one already");
    assert_eq!(make(&eva).status, 201, "so there is room for one of hers");
    assert_eq!(make(&ben).status, 429);
}
