{{ serving_batch('campaign_households') }}
