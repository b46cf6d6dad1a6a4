//! Tables of PostgreSQL whose deleted rows can be removed from its files.
//!
//! Invariant: no other place in the database has copies of their rows: they have no statistics.

/// The statement that keeps the server from sampling the rows of these tables for its planner.
pub(super) fn unsampled(tables: &[&str]) -> String {
    let unsample = each(UNSAMPLE, tables);
    format!("DO $$ DECLARE columns record; BEGIN {unsample} END $$")
}

/// The statement that writes these tables again, without deleted rows, in one transaction. (A `DELETE` leaves the bytes in the
/// page, and `VACUUM FULL` copies rows that an older transaction may see.) Readers go on meanwhile. The exchange waits
/// for them 100 ms at a time, because new readers wait behind it, and for five seconds in all.
pub(crate) fn rewriting(tables: &[&str]) -> String {
    let all = tables.join(", ");
    let (copy, exchange) = (each(COPY, tables), each(EXCHANGE, tables));
    let unsample = each(UNSAMPLE, tables);
    format!(
        "DO $$ DECLARE indexes record; columns record; BEGIN
             LOCK TABLE {all} IN SHARE MODE;
             {copy}
             PERFORM set_config('lock_timeout', '100ms', true);
             FOR attempt IN 1..50 LOOP
                 BEGIN
                     LOCK TABLE {all} IN ACCESS EXCLUSIVE MODE;
                     EXIT;
                 EXCEPTION WHEN lock_not_available THEN
                     IF attempt = 50 THEN RAISE; END IF;
                     PERFORM pg_sleep(0.02);
                 END;
             END LOOP;
             {exchange}
             {unsample}
         END $$"
    )
}

/// An index of sorted rows costs less than one that grows with each row.
const COPY: &str = "
    CREATE TABLE {table}_again (LIKE {table} INCLUDING ALL EXCLUDING INDEXES);
    INSERT INTO {table}_again SELECT * FROM {table};
    FOR indexes IN SELECT relname || '_again' AS name, indisprimary, pg_get_indexdef(indexrelid) AS definition
        FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = '{table}'::regclass
    LOOP
        EXECUTE regexp_replace(indexes.definition, ' INDEX \\S+ ON \\S+ ', format(' INDEX %I ON {table}_again ', indexes.name));
        IF indexes.indisprimary THEN
            EXECUTE format('ALTER TABLE {table}_again ADD PRIMARY KEY USING INDEX %I', indexes.name);
        END IF;
    END LOOP;";

const EXCHANGE: &str = "
    DROP TABLE {table};
    ALTER TABLE {table}_again RENAME TO {table};
    FOR indexes IN SELECT relname AS name FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE indrelid = '{table}'::regclass
    LOOP
        EXECUTE format('ALTER INDEX %I RENAME TO %I', indexes.name, regexp_replace(indexes.name, '_again$', ''));
    END LOOP;";

const UNSAMPLE: &str = "
    FOR columns IN SELECT attname AS name FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 LOOP
        EXECUTE format('ALTER TABLE {table} ALTER %I SET STATISTICS 0', columns.name);
    END LOOP;";

/// The statement for each table. `{table}` stands for its name.
fn each(statement: &str, tables: &[&str]) -> String {
    let statements = tables
        .iter()
        .map(|table| statement.replace("{table}", table));
    statements.collect::<Vec<_>>().join("\n")
}
