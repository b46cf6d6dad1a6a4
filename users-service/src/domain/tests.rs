use super::{
    Changes, Claim, FamilyName, GivenName, InvalidName, NameField, NameProblem, Personal, Profile,
    ReservationName, User, UserCommand, UserError, UserEvent, UserId, Username, unicode,
};
use event_sourcing::testing::{Given, given as given_events};
use sha2::{Digest as _, Sha256};

fn given(events: impl IntoIterator<Item = UserEvent>) -> Given<User> {
    given_events(events)
}

fn claim(name: &str, revision: u64) -> Claim {
    Claim {
        reservation: ReservationName::new(name),
        revision,
    }
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
        claim: claim(name, 0),
    }
}

fn created(name: &str) -> UserEvent {
    UserEvent::Created {
        profile: profile(name),
        claim: claim(name, 0),
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
        .then([patched(given_name("Augusta"), claim("ada", 0))]);
}

#[test]
fn a_rename_carries_its_new_claim() {
    given([created("ada")])
        .when(patch(username("lady"), Some(claim("lady", 7))))
        .then([patched(username("lady"), claim("lady", 7))]);
}

#[test]
fn a_patch_after_a_rename_repeats_the_claim_of_the_rename() {
    given([created("ada"), patched(username("lady"), claim("lady", 7))])
        .when(patch(given_name("Augusta"), None))
        .then([patched(given_name("Augusta"), claim("lady", 7))]);
}

#[test]
fn a_patch_event_has_only_the_fields_that_differ() {
    let mut changes = given_name("Ada");
    changes.username = Some(Username::parse("ADA").unwrap());
    given([created("ada")])
        .when(patch(changes, None))
        .then([patched(username("ADA"), claim("ada", 0))]);
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
        .then([patched(given_name("Augusta"), claim("ada", 0))]);
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
fn a_name_is_not_empty_or_too_long_and_has_no_control_characters() {
    let problem = |text: &str| Username::parse(text).unwrap_err().problem;
    assert_eq!(problem(""), NameProblem::Empty);
    assert_eq!(problem("  "), NameProblem::Empty);
    assert_eq!(problem(&"é".repeat(101)), NameProblem::TooLong);
    for broken in ["a\u{7}b", "a\nb", "a\u{2028}b", "a\u{2029}b"] {
        assert_eq!(problem(broken), NameProblem::ControlCharacter, "{broken:?}");
    }
    assert!(Username::parse("é".repeat(100)).is_ok());
    assert_eq!(
        FamilyName::parse("").unwrap_err(),
        InvalidName {
            field: NameField::FamilyName,
            problem: NameProblem::Empty
        }
    );
}

/// The problem of the text as username, given name and family name.
fn problems(text: &str) -> [Option<NameProblem>; 3] {
    let username = Username::parse(text).err();
    let given_name = GivenName::parse(text).err();
    let family_name = FamilyName::parse(text).err();
    [username, given_name, family_name].map(|invalid| invalid.map(|invalid| invalid.problem))
}

#[test]
fn an_invisible_name_is_refused_as_empty() {
    for invisible in [
        "\u{200B}",
        "\u{200B}\u{FEFF}",
        "\u{AD}",
        "\u{3164}",
        "\u{E0041}",
        "\u{2800}",
        "\u{2800} \u{2800}",
        "\u{3000}",
        "\u{13441}",
        "\u{1D159}",
        "\u{301}",
        "\u{FE0F}\u{301}",
    ] {
        assert_eq!(
            problems(invisible),
            [Some(NameProblem::Empty); 3],
            "{invisible:?}"
        );
    }
    for visible in ["x", "\u{5D0}", "\u{1F600}", "\u{2801}", "?"] {
        assert_eq!(problems(visible), [None; 3], "{visible:?}");
    }
}

#[test]
fn no_name_begins_or_ends_with_white_space_and_no_username_has_any() {
    let (gap, outer) = (
        Some(NameProblem::WhiteSpace),
        Some(NameProblem::OuterWhiteSpace),
    );
    for text in [
        " zed",
        "zed ",
        "zed\u{A0}",
        "\u{3000}zed",
        "zed\u{2800}",
        "\u{200B} zed",
        "zed \u{FE0F}",
    ] {
        assert_eq!(problems(text), [gap, outer, outer], "{text:?}");
    }
    for text in ["z ed", "z  ed", "z\u{A0}ed", "z\u{2800}ed"] {
        assert_eq!(problems(text), [gap, None, None], "{text:?}");
    }
}

#[test]
fn no_name_has_unassigned_characters() {
    for text in ["a\u{378}", "\u{FDD0}b", "\u{10FFFF}"] {
        assert_eq!(
            problems(text),
            [Some(NameProblem::Unassigned); 3],
            "{text:?}"
        );
    }
}

#[test]
fn every_username_folds_to_visible_characters() {
    let one = |c: char| Username::parse(c).ok();
    for username in ('\0'..=char::MAX).filter_map(one) {
        let folded = username.folded();
        let folded = folded.reveal();
        let shows = |c| !unicode::is_blank(c) && !unicode::is_ignorable(c);
        assert!(folded.chars().any(shows), "{folded:?}");
    }
}

#[test]
fn new_pairs_of_letters_fold_to_the_same_letter() {
    let folded = |text: &str| Username::parse(text).unwrap().folded();
    assert_eq!(folded("\u{16EA0}"), folded("\u{16EBB}"));
    assert_eq!(folded("\u{A7DD}"), folded("\u{277}"));
}

/// The name of a reservation is derived from the folding of the username. The digest covers all characters, one per line,
/// as the first versions of this service folded them (with `caseless` 0.2.2, Unicode 16, and `unicode-normalization` 0.1.26,
/// Unicode 18). Where today's folding differs, [`Username::former_foldings`] has the former one.
#[test]
fn every_folding_is_as_before_except_for_48_capital_letters() {
    let all: String = ('\0'..=char::MAX).flat_map(|c| [c, '\n']).collect();
    let (before, today) = (unicode::folded_before_17(&all), unicode::folded(&all));
    let digest = Sha256::digest(&before);
    let frozen = "f98866ce012bacc4d73403a03425c87f65f84371106f6407fe4d887f60859ec7";
    assert_eq!(hex::encode(digest), frozen);
    let differs = |(before, today): &(&str, &str)| before != today;
    let moved: Vec<_> = before.lines().zip(today.lines()).filter(differs).collect();
    assert_eq!(moved.len(), 48);
    for (capital, small) in moved {
        let former = Username::as_stored(small.to_owned()).former_foldings();
        assert_eq!(former, [Personal::new(capital.to_owned())]);
        assert!(Username::as_stored(capital.to_owned()).former_foldings() == former);
    }
}

#[test]
fn a_name_with_letters_that_have_a_new_case_is_looked_up_under_all_likely_spellings() {
    let former = |text: &str| {
        let former = Username::as_stored(text.to_owned()).former_foldings();
        former
            .into_iter()
            .map(Personal::into_revealed)
            .collect::<Vec<_>>()
    };
    let (a, small_a, small_b) = ('\u{16EA0}', '\u{16EBB}', '\u{16EBC}');
    let capitalised = format!("{a}{small_b}");
    let capitals = format!("{a}\u{16EA1}");
    let odd = format!("{small_a}\u{16EA1}");
    assert_eq!(
        former(&format!("{small_a}{small_b}")),
        [&*capitals, &capitalised]
    );
    assert_eq!(former(&odd), [&*capitals, &capitalised, &odd]);
    assert!(former("ada").is_empty());
}

#[test]
fn a_stored_name_is_not_checked() {
    for text in ["", " zed ", "\u{200B}", "a\u{7}b", "\u{378}"] {
        assert_eq!(
            Username::as_stored(text.to_owned()).personal().reveal(),
            text
        );
        assert_eq!(
            GivenName::as_stored(text.to_owned()).personal().reveal(),
            text
        );
        assert_eq!(
            FamilyName::as_stored(text.to_owned()).personal().reveal(),
            text
        );
    }
}

#[test]
fn all_spellings_of_a_username_have_the_same_folding() {
    let folded = |text: &str| Username::parse(text).unwrap().folded();
    for (one, other) in [
        ("ada", "ADA"),
        ("straße", "STRASSE"),
        ("ﬁn", "fin"),
        ("ＡＤＡ", "ada"),
        ("e\u{301}", "É"),
        ("a\u{200B}da", "ada"),
        ("ᾳ", "ΑΙ"),
    ] {
        assert_eq!(folded(one), folded(other), "{one} {other}");
    }
    assert_ne!(folded("ada"), folded("adá"));
}

#[test]
fn an_id_has_exactly_one_spelling() {
    assert_eq!("42".parse(), Ok(UserId::new(42)));
    for text in ["", "-1", "+42", "042", "42 ", "abc", "18446744073709551616"] {
        assert!(text.parse::<UserId>().is_err(), "{text}");
    }
}
