"""Suites of dbt-tests-adapter that dbt-dremio cannot be asked to pass, by class, each with the reason."""

from __future__ import annotations

ABSTRACT = "a base of other suites, which run"
CLONE = "dbt-dremio raises NotImplemented for clone: Dremio has no copy of a table without its data"
CONSTRAINTS = "Dremio enforces no constraint, so that nothing is rolled back"
MERGE_OPTIONS = "dbt-dremio's merge takes no such option and its only strategies are append and merge"
DOCS = "dbt-dremio keeps descriptions in Dremio's wiki, not as comments of a catalog: tests/contracts/test_dremio.py"
POSTGRES = "says PostgreSQL's own types, functions, messages or SQL"
PYTHON = "Dremio runs no Python models"
UDF = "dbt-dremio 1.11 has no functions as nodes"
MATERIALIZED_VIEW = "Dremio has reflections instead, which dbt-dremio materializes: test_reflections.py"
WHOLE_QUERY = "dbt-dremio's dateadd, datediff and last_day write a whole SELECT where a value is asked for"
LEFT_OVER = "dbt-dremio drops no schema of the object store; the suite drops it by hand, in PostgreSQL's words"
SEED_TYPES = "a seed's numbers are BIGINT and DOUBLE in dbt-dremio; the suite compares them with a narrower type"
SCHEMA_FOLDER = "dbt-dremio's custom schema is a folder in the target's; the suite names it by hand"
CATALOG_NAMES = "the embedded Iceberg catalog (SeaweedFS) takes table names of a-z, 0-9, _ and - only"
BARE_SCHEMA = "the suite's models name tables without a database; Dremio has no default one"
ADD_COLUMN = "a column is added by ADD COLUMN, in dbt's own words or the suite's; Dremio has ADD COLUMNS (...) only"
CASCADE = "Dremio drops no view with the table that it reads"
NO_VIEW = "dbt-dremio refuses to change a table of the object store into a view"

NOT_APPLICABLE: dict[str, str] = {
    **dict.fromkeys(
        (
            "BaseConstraintsColumnsEqual",
            "BaseContractSqlHeader",
            "BaseCachingTest",
            "BaseDataTypeMacro",
            "BaseUtils",
            "BaseArrayUtils",
            "BaseCurrentTimestamp",
            "UDAFBase",
        ),
        ABSTRACT,
    ),
    **dict.fromkeys(
        (
            "BaseClonePossible",
            "BaseCloneNotPossible",
            "BaseCloneSameSourceAndTarget",
            "BaseCloneSameTargetAndState",
        ),
        CLONE,
    ),
    **dict.fromkeys(
        ("BaseConstraintsRollback", "BaseIncrementalConstraintsRollback", "BaseIncrementalForeignKeyConstraint"),
        CONSTRAINTS,
    ),
    **dict.fromkeys(("BaseMergeExcludeColumns", "BaseIncrementalPredicates", "BaseMicrobatch"), MERGE_OPTIONS),
    **dict.fromkeys(
        (
            "BasePersistDocs",
            "BasePersistDocsColumnMissing",
            "BasePersistDocsAllColumnsMissing",
            "BasePersistDocsQuotedColumnCaseSensitive",
            "BasePersistDocsQuotedDescriptionNotAppliedOnMismatch",
            "BasePersistDocsCommentOnQuotedColumn",
        ),
        DOCS,
    ),
    **dict.fromkeys(
        (
            "BasePostgresColumnTypes",
            "BaseDebugPostgres",
            "BaseDebugInvalidProjectPostgres",
            "BaseEscapeSingleQuotesBackslash",
            "BaseCurrentTimestampAware",
            "BaseEphemeralNested",
            "BaseSeedWithWrongDelimiter",
        ),
        POSTGRES,
    ),
    "BaseAfterRunHooks": BARE_SCHEMA,
    **dict.fromkeys(
        (
            "BasePrePostModelHooksOnSeeds",
            "BasePrePostModelHooksOnSeedsPlusPrefixed",
            "BasePrePostModelHooksOnSeedsPlusPrefixedWhitespace",
            "BasePrePostModelHooksOnSnapshots",
            "BasePrePostSnapshotHooksInConfigKwargs",
            "BaseSnapshotNewColumnTimestampStrategy",
            "BaseSnapshotNewColumnSpecificCheckCols",
            "BaseSnapshotNewColumnWithDeletes",
            "BaseSnapshotEphemeralHardDeletes",
        ),
        ADD_COLUMN,
    ),
    **dict.fromkeys(("BaseDate", "BaseDateAdd", "BaseDateDiff", "BaseLastDay"), WHOLE_QUERY),
    **dict.fromkeys(("BaseSimpleSeedEnabledViaConfig", "BaseDropSchemaNamed"), LEFT_OVER),
    **dict.fromkeys(("BaseTypeInt", "BaseTypeFloat"), SEED_TYPES),
    **dict.fromkeys(("BaseSeedSpecificFormats", "BaseStoreTestFailuresLimit"), CATALOG_NAMES),
    **dict.fromkeys(("BaseCachingUppercaseModel", "BaseSimpleCopyUppercase"), CATALOG_NAMES),
    **dict.fromkeys(("BaseStoreTestFailures", "BaseSeedCustomSchema"), SCHEMA_FOLDER),
    **dict.fromkeys(
        (
            "BasePrePostRunHooks",
            "BasePrePostModelHooks",
            "BaseHookRefs",
            "BasePrePostModelHooksInConfig",
            "BasePrePostModelHooksInConfigWithCount",
            "BasePrePostModelHooksInConfigKwargs",
        ),
        "the suite runs a file of SQL that its package does not have, and its hooks name a table without a database",
    ),
    **dict.fromkeys(("BaseChangeRelationTypeValidator", "BaseSimpleMaterializations"), NO_VIEW),
    "BaseTestEmptySeed": "dbt-dremio writes VALUES without a row for a seed that has none",
    **dict.fromkeys(
        (
            "BaseTableContractSqlHeader",
            "BaseIncrementalContractSqlHeader",
            "BaseShowSqlHeader",
        ),
        "a sql_header is a second statement before the first; Dremio takes one statement at a time",
    ),
    "BaseAdapterMethod": "dbt-dremio never drops a schema of the object store, which holds all of this project",
    "BaseGetCatalogForSingleRelation": "dbt-dremio does not implement get_catalog_for_single_relation",
    "BaseCatalogIntegrationValidation": "dbt-dremio has no catalog integrations",
    "CatalogRelationTypes": MATERIALIZED_VIEW,
    "BaseTableMaterialization": BARE_SCHEMA,
    **dict.fromkeys(("BaseConcurrency", "BaseEphemeralMulti", "BaseSeedParsing"), BARE_SCHEMA),
    "BaseSeedConfigFullRefreshOn": CASCADE,
    "BaseSimpleSeedWithBOM": "the suite reads a file that its package does not have",
    "BaseSnapshotDbtValidToCurrent": "the suite asks for rows by their place in a result without an order",
    "BaseListagg": "dbt's listagg with a limit is ARRAY_AGG ... WITHIN GROUP, which Dremio does not take",
    "BaseTestEmptySeedFlag": "dbt-core 1.11 has no option --empty of `dbt seed`",
    "MetadataWithEmptyFlag": "with --empty a relation is a subquery, and dbt-dremio writes it into ALTER as it is",
    "BaseTestEmptyInlineSourceRef": "dbt-dremio names the empty subquery itself: the suite's name is a second one",
    "BaseIncrementalBadStrategy": "the suite asks for a strategy of another adapter by the words of dbt's default",
}
"""Whole groups, by the folder that they lie in, stand in GROUPS."""

GROUPS: dict[str, str] = {
    "python_model": PYTHON,
    "functions": UDF,
    "materialized_view": MATERIALIZED_VIEW,
    "catalog_integrations": "dbt-dremio has no catalog integrations",
}
