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
BARE_SCHEMA = "the suite sends names without a database by hand; Dremio has no default database"

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
            "BaseEphemeralMulti",
            "BaseEphemeralNested",
            "BaseBasicSeedTests",
            "BaseSeedConfigFullRefreshOn",
            "BaseSeedConfigFullRefreshOff",
            "BaseSeedCustomSchema",
            "BaseSeedWithUniqueDelimiter",
            "BaseSeedWithWrongDelimiter",
            "BaseSeedWithEmptyDelimiter",
            "BaseSeedParsing",
            "BaseSimpleSeedWithBOM",
            "BaseSimpleSeedColumnOverride",
            "BasePrePostModelHooksOnSeeds",
            "BasePrePostModelHooksOnSeedsPlusPrefixed",
            "BasePrePostModelHooksOnSeedsPlusPrefixedWhitespace",
            "BasePrePostModelHooksOnSnapshots",
            "BasePrePostSnapshotHooksInConfigKwargs",
            "BaseSnapshotNewRecordCheckMode",
            "BaseSnapshotNewRecordTimestampMode",
            "BaseSnapshotNewColumnTimestampStrategy",
            "BaseSnapshotNewColumnSpecificCheckCols",
            "BaseSimpleSnapshot",
            "BaseListagg",
        ),
        POSTGRES,
    ),
    **dict.fromkeys(
        (
            "BaseIncrementalUniqueKey",
            "BaseAfterRunHooks",
            "BaseSnapshotNewRecordDbtValidToCurrent",
            "BaseSnapshotNewColumnWithDeletes",
            "BaseSnapshotColumnNames",
            "BaseSnapshotColumnNamesFromDbtProject",
            "BaseSnapshotInvalidColumnNames",
            "BaseSnapshotDbtValidToCurrent",
            "BaseSnapshotMultiUniqueKey",
        ),
        BARE_SCHEMA,
    ),
    **dict.fromkeys(("BaseDate", "BaseDateAdd", "BaseDateDiff", "BaseLastDay"), WHOLE_QUERY),
    **dict.fromkeys(("BaseSimpleSeedEnabledViaConfig", "BaseDropSchemaNamed"), LEFT_OVER),
    **dict.fromkeys(("BaseTypeInt", "BaseTypeFloat"), SEED_TYPES),
    **dict.fromkeys(("BaseSeedSpecificFormats", "BaseStoreTestFailuresLimit"), CATALOG_NAMES),
    **dict.fromkeys(("BaseCachingUppercaseModel", "BaseSimpleCopyUppercase"), CATALOG_NAMES),
    "BaseStoreTestFailures": SCHEMA_FOLDER,
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
    "BaseChangeRelationTypeValidator": "dbt-dremio refuses to change a table of the object store into a view",
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
    "BaseSimpleMaterializations": "dbt-dremio refuses to change a table of the object store into a view",
    "BaseGetCatalogForSingleRelation": "dbt-dremio does not implement get_catalog_for_single_relation",
    "BaseCatalogIntegrationValidation": "dbt-dremio has no catalog integrations",
    "CatalogRelationTypes": MATERIALIZED_VIEW,
    "BaseTableMaterialization": BARE_SCHEMA,
    "BaseConcurrency": BARE_SCHEMA,
    "BaseSnapshotEphemeralHardDeletes": BARE_SCHEMA,
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
