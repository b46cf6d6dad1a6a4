//! What makes a problem distinguishable for programs: each kind of problem has a type of its own.

use actix_web::http::StatusCode;

/// A kind of problem. Clients branch on its URI, so the URI never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProblemType {
    /// The URI in the member `type`. It is only a name: there is nothing to fetch.
    pub uri: &'static str,
    /// The status of every answer with this problem.
    pub status: StatusCode,
    /// The member `title`: what the problem means, the same in every answer.
    pub title: &'static str,
}

/// Declares one constant for each problem type, and `ALL`, the list of them.
///
/// ```
/// web::problem_types! {
///     TEAPOT = IM_A_TEAPOT, "teapot", "This is a teapot";
/// }
/// assert_eq!(TEAPOT.uri, "urn:problem-type:teapot");
/// assert_eq!(ALL, [TEAPOT]);
/// ```
#[macro_export]
macro_rules! problem_types {
    ($($constant:ident = $status:ident, $name:literal, $title:literal;)+) => {
        $(
            #[doc = concat!($title, ".")]
            pub const $constant: $crate::ProblemType = $crate::ProblemType {
                uri: concat!("urn:problem-type:", $name),
                status: $crate::StatusCode::$status,
                title: $title,
            };
        )+

        /// All of these problem types.
        pub const ALL: &[$crate::ProblemType] = &[$($constant),+];
    };
}
