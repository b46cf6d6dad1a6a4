use super::{
    Changes, Claim, FamilyName, GivenName, NameField, Profile, ReservationName, User, UserCommand,
    UserError, UserEvent, UserId, Username,
};
use event_sourcing::testing::{Given, given as given_events};

fn given(events: impl IntoIterator<Item = UserEvent>) -> Given<User> {
    given_events(events)
}

fn profile(username: &str) -> Profile {
    Profile {
        username: Username::parse(username).unwrap(),
        given_name: GivenName::parse("Ada").unwrap(),
        family_name: FamilyName::parse("Lovelace").unwrap(),
    }
}

fn username(name: &str) -> Changes {
    Changes {
        username: Some(Username::parse(name).unwrap()),
        ..Changes::default()
    }
}

fn given_name(name: &str) -> Changes {
    Changes {
        given_name: Some(GivenName::parse(name).unwrap()),
        ..Changes::default()
    }
}

fn create(name: &str) -> UserCommand {
    UserCommand::Create {
        profile: profile(name),
        claim: Claim::of(name, 0),
    }
}

fn created(name: &str) -> UserEvent {
    UserEvent::Created {
        profile: profile(name),
        claim: Claim::of(name, 0),
    }
}

fn patch(changes: Changes, claim: Option<Claim>) -> UserCommand {
    UserCommand::Patch { changes, claim }
}

fn patched(changes: Changes, claim: Claim) -> UserEvent {
    UserEvent::Patched { changes, claim }
}

#[test]
fn a_user_is_created_under_a_new_id() {
    given([]).when(create("ada")).then([created("ada")]);
}

#[test]
fn a_user_is_created_once() {
    given([created("ada")])
        .when(create("ada"))
        .then_refused(UserError::Exists);
}

#[test]
fn no_user_is_created_under_an_abandoned_id() {
    given([UserEvent::RegistrationAbandoned])
        .when(create("ada"))
        .then_refused(UserError::Abandoned);
}

#[test]
fn a_user_who_was_never_created_cannot_be_patched_or_deleted() {
    for events in [vec![], vec![UserEvent::RegistrationAbandoned]] {
        given(events.clone())
            .when(patch(given_name("Augusta"), None))
            .then_refused(UserError::Unknown);
        given(events)
            .when(UserCommand::Delete)
            .then_refused(UserError::Unknown);
    }
}

#[test]
fn a_patch_without_another_name_repeats_the_claim() {
    given([created("ada")])
        .when(patch(given_name("Augusta"), None))
        .then([patched(given_name("Augusta"), Claim::of("ada", 0))]);
}

#[test]
fn a_rename_carries_its_new_claim() {
    given([created("ada")])
        .when(patch(username("lady"), Some(Claim::of("lady", 7))))
        .then([patched(username("lady"), Claim::of("lady", 7))]);
}

#[test]
fn a_patch_after_a_rename_repeats_the_claim_of_the_rename() {
    given([
        created("ada"),
        patched(username("lady"), Claim::of("lady", 7)),
    ])
    .when(patch(given_name("Augusta"), None))
    .then([patched(given_name("Augusta"), Claim::of("lady", 7))]);
}

#[test]
fn a_patch_event_has_only_the_fields_that_differ() {
    let mut changes = given_name("Ada");
    changes.username = Some(Username::parse("ADA").unwrap());
    given([created("ada")])
        .when(patch(changes, None))
        .then([patched(username("ADA"), Claim::of("ada", 0))]);
}

#[test]
fn a_patch_that_changes_nothing_makes_no_event() {
    given([created("ada")])
        .when(patch(username("ada"), None))
        .then_nothing();
    given([created("ada")])
        .when(patch(Changes::default(), None))
        .then_nothing();
}

#[test]
fn a_fence_does_not_change_the_user() {
    given([created("ada"), UserEvent::RenameFenced])
        .when(patch(given_name("Augusta"), None))
        .then([patched(given_name("Augusta"), Claim::of("ada", 0))]);
}

#[test]
fn a_user_is_deleted() {
    given([created("ada")])
        .when(UserCommand::Delete)
        .then([UserEvent::Deleted]);
}

#[test]
fn an_erased_user_stays_erased() {
    for command in [
        create("ada"),
        patch(given_name("Augusta"), None),
        UserCommand::Delete,
    ] {
        given([created("ada"), UserEvent::Deleted])
            .when(command)
            .then_refused(UserError::Erased);
    }
}

#[test]
fn an_unchanged_family_name_is_no_change() {
    let family_name = |name| Changes {
        family_name: Some(FamilyName::parse(name).unwrap()),
        ..Changes::default()
    };
    given([created("ada")])
        .when(patch(family_name("Lovelace"), None))
        .then_nothing();
    given([created("ada")])
        .when(patch(family_name("King"), None))
        .then([patched(family_name("King"), Claim::of("ada", 0))]);
}

#[test]
fn names_stand_in_the_order_of_their_fields() {
    let texts = NameField::ALL.map(NameField::as_str);
    assert_eq!(texts, ["username", "given_name", "family_name"]);
    assert_eq!(NameField::ALL.map(|field| field.to_string()), texts);
    let profile = profile("ada");
    let names = profile.names().map(|name| name.reveal().as_str());
    assert_eq!(names, ["ada", "Ada", "Lovelace"]);
    let revealed = |changes: &Changes| {
        changes
            .names()
            .map(|name| name.map(|name| name.reveal().clone()))
    };
    let changed = |name: &str| Some(name.to_owned());
    assert_eq!(revealed(&username("eda")), [changed("eda"), None, None]);
    assert_eq!(revealed(&given_name("Eda")), [None, changed("Eda"), None]);
}

#[test]
fn a_reservation_has_the_name_that_it_was_given() {
    let reservation = ReservationName::new("username-01");
    assert_eq!(reservation.as_str(), "username-01");
    assert_eq!(reservation.to_string(), "username-01");
}

#[test]
fn an_id_has_exactly_one_spelling() {
    assert_eq!("42".parse(), Ok(UserId::new(42)));
    assert_eq!(UserId::new(42).number(), 42);
    for text in ["", "-1", "+42", "042", "42 ", "abc", "18446744073709551616"] {
        assert!(text.parse::<UserId>().is_err(), "{text}");
    }
}
