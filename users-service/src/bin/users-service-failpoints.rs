//! users-service with failpoints, for the system tests: it ends like by `kill -9` at the places that `FAILPOINTS` names, such as
//! `before-publish=7*off->return`: at the eighth message. Only the cargo feature `failpoints` builds it.

#[path = "../main.rs"]
mod users_service_main;

fn main() -> anyhow::Result<()> {
    let _until_the_end = fail::FailScenario::setup();
    users_service_main::main()
}
