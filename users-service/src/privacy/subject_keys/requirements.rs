//! What a PostgreSQL server and the rights of our role must allow, so that a destroyed key is in no file.
//!
//! Invariant: knows what is needed and what an operator does about it, and changes nothing.

use super::KeysError;
use crate::database::Database;

/// Each requirement with its remedy. The server removes an old segment of its log instead of using its file again, in which
/// the old bytes would stay; every connection can set `wal_recycle` for itself, which changes nothing, so only the
/// configuration counts. A log of statements would have the parameters, and so the wrapped keys.
const UNMET: &str = "
    SELECT remedy FROM (VALUES
        (current_setting('server_version_num')::int >= 150000, 'it must be PostgreSQL 15 or later'),
        ((SELECT setting = 'off' AND source IN ('configuration file', 'command line')
          FROM pg_settings WHERE name = 'wal_recycle'),
         'set wal_recycle = off in its configuration, and reload it'),
        (current_setting('fsync') = 'on', 'set fsync = on in its configuration, and reload it'),
        (current_setting('synchronous_commit') IN ('on', 'local', 'remote_write', 'remote_apply'),
         'synchronous_commit must not be off'),
        (current_setting('log_parameter_max_length_on_error') = '0'
         AND (current_setting('log_parameter_max_length') = '0'
              OR current_setting('log_statement') IN ('none', 'ddl')
              AND current_setting('log_min_duration_statement') = '-1'
              AND current_setting('log_min_duration_sample') = '-1'
              AND current_setting('log_transaction_sample_rate') = '0'),
         'it logs parameters of statements: ALTER ROLE ' || quote_ident(current_user)
             || ' SET log_parameter_max_length = 0, and the same for log_parameter_max_length_on_error'),
        (EXISTS (SELECT FROM pg_roles WHERE rolname = 'pg_checkpoint' AND pg_has_role(oid, 'USAGE')),
         'GRANT pg_checkpoint TO ' || quote_ident(current_user)),
        (has_function_privilege('pg_switch_wal()', 'EXECUTE'),
         'GRANT EXECUTE ON FUNCTION pg_switch_wal() TO ' || quote_ident(current_user) || ' in this database'),
        (has_function_privilege('pg_ls_waldir()', 'EXECUTE'),
         'GRANT EXECUTE ON FUNCTION pg_ls_waldir() TO ' || quote_ident(current_user) || ' in this database')
    ) AS requirement (met, remedy)
    WHERE met IS NOT TRUE";

/// Names everything that an operator must change.
///
/// # Errors
/// [`KeysError::Unsuitable`] if something is missing.
pub(super) async fn check(database: &Database) -> Result<(), KeysError> {
    let remedies = sqlx::query_scalar(UNMET);
    let remedies: Vec<String> = remedies.fetch_all(database.pool()).await?;
    if remedies.is_empty() {
        Ok(())
    } else {
        Err(KeysError::Unsuitable(remedies.join("; ")))
    }
}
