{{ serving_speed('campaign_households') }}
