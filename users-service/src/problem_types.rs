//! The problem types that only this service has. [`web::problem_types`](mod@web::problem_types) has the others.

web::problem_types! {
    USERNAME_TAKEN = CONFLICT, "username-taken", "Another user has the username";
    CONTENDED = CONFLICT, "contended", "Too many other commands changed the same user or name at the same time";
}
